package check_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/torture/check"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// ledger has three events: a1, a2 along one line, b1 along another.
func ledger() *check.Ledger {
	return check.NewLedger([]check.Event{
		{ID: "a1", Line: "a", Seq: 1, Type: "kept", Published: at(0)},
		{ID: "a2", Line: "a", Seq: 2, Type: "kept", Published: at(1)},
		{ID: "b1", Line: "b", Seq: 1, Type: "other", Published: at(2)},
	})
}

func arrivals(ids string) []check.Arrival {
	var all []check.Arrival
	for i, id := range strings.Fields(ids) {
		all = append(all, check.Arrival{ID: id, Place: int64(i), At: at(float64(i))})
	}
	return all
}

func TestJudgeTellsEachKindOfTrouble(t *testing.T) {
	t.Parallel()
	onlyKept := func(e check.Event) bool { return e.Type == "kept" }
	cases := []struct {
		name, arrived string
		wants         func(check.Event) bool
		repeat        bool
		want          string // lost doubled invented disordered repeated
		first         string
	}{
		{"all in order", "a1 a2 b1", nil, false, "0 0 0 0 0", ""},
		{"lines do not bind each other", "b1 a1 a2", nil, false, "0 0 0 0 0", ""},
		{"nothing", "", nil, false, "3 0 0 0 0", "lost at hop: event a1, number 1 of a"},
		{"one missing", "a1 b1", nil, false, "1 0 0 0 0", "lost at hop: event a2, number 2 of a"},
		{"one twice", "a1 a1 a2 b1", nil, false, "0 1 0 0 0", "doubled at hop: event a1, number 1 of a"},
		{"one twice where that is allowed", "a1 a2 a1 b1", nil, true, "0 0 0 0 1", ""},
		{"never committed", "a1 a2 x b1", nil, false, "0 0 1 0 0", "invented at hop: event x"},
		{"filtered and there", "a1 a2 b1", onlyKept, false, "0 0 1 0 0", "invented at hop: event b1, number 1 of b"},
		{"filtered", "a1 a2", onlyKept, false, "0 0 0 0 0", ""},
		{"the later first", "a2 a1 b1", nil, false, "0 0 0 1 0", "disordered at hop: event a1, number 1 of a, came after number 2 (a2)"},
		{"the later first, and repeated in order", "a2 a1 a2 b1", nil, true, "0 0 0 1 1", "disordered at hop: event a1, number 1 of a, came after number 2 (a2)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := ledger().Judge(check.Hop{Name: "hop", Arrivals: arrivals(c.arrived), Wants: c.wants, MayRepeat: c.repeat})
			if got := fmt.Sprint(v.Lost, v.Doubled, v.Invented, v.Disordered, v.Repeated); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			first, found := check.First([]check.Verdict{v})
			if found != (c.first != "") || found && first.String() != c.first {
				t.Errorf("the first finding is %q, want %q", first, c.first)
			}
			if v.Clean() != (c.first == "") {
				t.Errorf("clean is %v", v.Clean())
			}
		})
	}
}

func TestWhatRetentionMayHaveRemovedIsNotLost(t *testing.T) {
	t.Parallel()
	hop := check.Hop{Name: "hop", Arrivals: arrivals("a1"), Since: at(1.5)}
	if v := ledger().Judge(hop); v.Wanted != 2 || v.Lost != 1 || v.First[0].ID != "b1" {
		t.Errorf("got %+v", v)
	}
}

func TestFirstFindingIsOfTheEarliestHop(t *testing.T) {
	t.Parallel()
	clean := ledger().Judge(check.Hop{Name: "outbox", Arrivals: arrivals("a1 a2 b1")})
	stream := ledger().Judge(check.Hop{Name: "stream", Arrivals: arrivals("a1 b1")})
	inbox := ledger().Judge(check.Hop{Name: "inbox", Arrivals: arrivals("b1")})
	if first, _ := check.First([]check.Verdict{clean, stream, inbox}); first.Hop != "stream" || first.ID != "a2" {
		t.Errorf("the first finding is %s", first)
	}
}

func TestStallCountsFromWhenSomethingWaited(t *testing.T) {
	t.Parallel()
	events := []check.Event{
		{ID: "1", Published: at(0), Committed: at(1)},
		{ID: "2", Published: at(2), Committed: at(2)},
		{ID: "3", Published: at(20)},
		{ID: "late", Published: at(0), Committed: at(30)},
	}
	hop := check.Hop{Name: "hop", Arrivals: []check.Arrival{
		{ID: "1", At: at(1)}, {ID: "2", At: at(12)}, {ID: "3", At: at(21)}, {ID: "late", At: at(31)},
	}}
	cases := []struct {
		name         string
		faults       []check.Window
		worst, quiet float64
	}{
		{"event 2 waited from its commit; the late one only from its own", nil, 10, 10},
		{"a fault excuses its time", []check.Window{{From: at(3), To: at(8)}}, 10, 4},
		{"overlapping faults count once", []check.Window{{From: at(6), To: at(20)}, {From: at(1), To: at(7)}}, 10, 1},
		{"a fault elsewhere excuses nothing", []check.Window{{From: at(40), To: at(50)}}, 10, 10},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := check.NewLedger(events).Stalls(hop, "", c.faults)
			if s.Worst.Seconds() != c.worst || s.Quiet.Seconds() != c.quiet {
				t.Errorf("worst %s, in quiet %s; want %gs, %gs", s.Worst, s.Quiet, c.worst, c.quiet)
			}
		})
	}
}
