package torture

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/torture/check"
	"github.com/pg-tide/pg-tide/internal/torture/inject"
	"github.com/pg-tide/pg-tide/internal/torture/plan"
	"github.com/pg-tide/pg-tide/internal/torture/sample"
	"github.com/pg-tide/pg-tide/internal/torture/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWrongOptionsAreRefusedByName(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"--for":       {For: time.Second},
		"--every":     {Every: time.Millisecond},
		"--writers":   {Writers: -1},
		"--rate":      {Rate: -1},
		"--lanes":     {Lanes: 1000},
		"--retention": {Retention: time.Second},
		"--pipelines": {Pipelines: 1000},
		"--faults":    {Faults: "nonsense"},
		"--postgres":  {Postgres: "9"},
		"the folder":  {Postgres: "/nowhere"},
	} {
		_, err := Run(t.Context(), o)
		var wrong *OptionError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestUsedFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := (&Report{}).write(dir); err != nil {
		t.Fatal(err)
	}
	_, err := Options{Dir: dir}.settle()
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("the error is %v", err)
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func healthy() *Report {
	return &Report{
		Before: map[string]sample.Use{"orders-1": {Goroutines: 20, Files: 20}},
		After:  map[string]sample.Use{"orders-1": {Goroutines: 25, Files: 22}},
		Most:   map[string]sample.Use{"orders-1": {Bytes: 40 << 20}},
		Takeovers: []inject.Takeover{
			{Kind: plan.RelayKill, Service: "orders", Owned: 8 * time.Second},
			{Kind: plan.RelayKill, Service: "orders", Disturbed: true},
		},
		Drains: []inject.Drain{{Relay: "orders-1", Took: time.Second}, {Relay: "orders-1", Took: time.Minute, Disturbed: true}},
	}
}

func TestEachBoundIsWatched(t *testing.T) {
	t.Parallel()
	nothing := check.NewLedger(nil)
	r := healthy()
	if r.conclude(nothing, nil, nil); !r.Clean() {
		t.Fatalf("a healthy report has findings: %q", r.Broken)
	}
	for want, spoil := range map[string]func(*Report){
		"taken over 0s after relay-kill":   func(r *Report) { r.Takeovers = append(r.Takeovers, inject.Takeover{Kind: plan.RelayKill}) },
		"taken over 16s after relay-kill":  func(r *Report) { r.Takeovers[0].Owned = 16 * time.Second },
		"taken over 6s after relay-stop":   func(r *Report) { r.Takeovers[0] = inject.Takeover{Kind: plan.RelayStop, Owned: 6 * time.Second} },
		"took 9s to end":                   func(r *Report) { r.Drains[0].Took = 9 * time.Second },
		"MiB of memory":                    func(r *Report) { r.Most["orders-1"] = sample.Use{Bytes: 200 << 20} },
		"ended with 200 goroutines":        func(r *Report) { r.After["orders-1"] = sample.Use{Goroutines: 200} },
		"ended with 200 open files":        func(r *Report) { r.After["orders-1"] = sample.Use{Files: 200} },
		"said the same 2.0 times a second": func(r *Report) { r.Repeated = world.Repetition{PerSecond: 2} },
		"stayed open for 3.0 s":            func(r *Report) { r.Open = []sample.OpenTransaction{{Seconds: 3}} },
		"moved back 1 times":               func(r *Report) { r.Setbacks = []sample.Setback{{Pipeline: "p"}} },
		"set aside though":                 func(r *Report) { r.DeadLetters = []string{"x"} },
	} {
		r := healthy()
		spoil(r)
		r.conclude(nothing, nil, nil)
		if len(r.Broken) != 1 || !strings.Contains(r.Broken[0], want) {
			t.Errorf("want %q, got %q", want, r.Broken)
		}
	}
}

func TestStoryTellsEveryHopAndTheFaultsAround(t *testing.T) {
	t.Parallel()
	ledger := check.NewLedger([]check.Event{
		{ID: "one", Line: "orders/a", Seq: 1, XID: "700", How: "plain", Published: noon, Committed: noon.Add(time.Second)},
		{ID: "two", Line: "orders/a", Seq: 2, XID: "701", How: "plain", Published: noon.Add(2 * time.Second)},
	})
	hops := []check.Hop{{Name: "stream", Arrivals: []check.Arrival{
		{ID: "two", Place: 1, At: noon.Add(3 * time.Second)}, {ID: "one", Place: 2, At: noon.Add(4 * time.Second)},
	}}}
	r := &Report{}
	r.compare(ledger, hops, nil, nil)
	near := &inject.Applied{Fault: plan.Fault{Kind: plan.RelayKill}, Target: "orders-1", Began: noon.Add(500 * time.Millisecond), Ended: noon.Add(time.Second)}
	far := &inject.Applied{Fault: plan.Fault{Kind: plan.BrokerKill}, Target: "NATS", Began: noon.Add(time.Hour), Ended: noon.Add(time.Hour)}
	r.conclude(ledger, hops, []*inject.Applied{near, far})
	text := strings.Join(r.Story, "\n")
	for _, want := range []string{
		"disordered at stream: event one, number 1 of orders/a, came after number 2 (two)",
		"12:00:00.000 one (orders/a number 1) published in xid 700",
		"12:00:00.500 relay-kill of orders-1 begins",
		"12:00:01.000 one (orders/a number 1) known to be committed",
		"12:00:03.000 two (orders/a number 2) at stream, place 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "NATS") {
		t.Errorf("a fault an hour later is told:\n%s", text)
	}
	if r.Clean() {
		t.Error("the report is clean")
	}
}
