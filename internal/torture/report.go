package torture

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/broker"
	"github.com/pg-tide/pg-tide/internal/broker/kafka"
	"github.com/pg-tide/pg-tide/internal/torture/check"
	"github.com/pg-tide/pg-tide/internal/torture/inject"
	"github.com/pg-tide/pg-tide/internal/torture/plan"
	"github.com/pg-tide/pg-tide/internal/torture/sample"
	"github.com/pg-tide/pg-tide/internal/torture/world"
)

// Report is what became of a torture. Durations are nanoseconds in JSON.
type Report struct {
	Seed     uint64        `json:"seed"`
	For      time.Duration `json:"for_ns"`
	Postgres string        `json:"postgres"`
	Broker   string        `json:"broker"`
	Lanes    int           `json:"lanes"`
	Writers  int           `json:"writers"`
	Began    time.Time     `json:"began"`
	// Traffic is how long there was traffic, Rest how long it took until
	// nothing moved any more.
	Traffic time.Duration `json:"traffic_ns"`
	Rest    time.Duration `json:"rest_ns"`
	// Events were committed.
	Events int `json:"events"`
	// Faults counts what was done, by kind; Failed what could not be done.
	Faults map[plan.Kind]int `json:"faults"`
	Failed map[plan.Kind]int `json:"failed_faults,omitempty"`
	// LeftOut says why kinds that were asked for could not be had.
	LeftOut map[plan.Kind]string `json:"left_out,omitempty"`

	Hops      []check.Verdict   `json:"hops"`
	Stalls    []check.Stall     `json:"stalls"`
	Takeovers []inject.Takeover `json:"takeovers"`
	Drains    []inject.Drain    `json:"drains"`

	Before      map[string]sample.Use    `json:"use_before"`
	Most        map[string]sample.Use    `json:"use_most"`
	After       map[string]sample.Use    `json:"use_after"`
	Connections map[string]int64         `json:"connections_most"`
	Open        []sample.OpenTransaction `json:"open_transactions"`
	Setbacks    []sample.Setback         `json:"setbacks"`
	Repeated    world.Repetition         `json:"repeated_line"`
	DeadLetters []string                 `json:"dead_letters"`

	// Broken says which promises were broken; Story is that of the first
	// event that shows it.
	Broken []string `json:"broken"`
	Story  []string `json:"story,omitempty"`
	// Dir holds the artefacts; empty when they were not worth keeping.
	Dir string `json:"dir,omitempty"`
}

// What is too much. Times are more generous than the promises by what a busy
// machine adds.
const (
	mostBytes         = 150 << 20
	mostRepeats       = 1.2 // a second
	mostStall         = 20 * time.Second
	takeoverAfterKill = 15 * time.Second // promised: 10
	takeoverAfterTerm = 5 * time.Second  // promised: 2
	mostDrain         = 8 * time.Second  // promised: 5
	goroutineSlack    = 60
	fileSlack         = 30
)

// brokerOf is the broker with its version.
func brokerOf(bus string) string {
	if bus == world.BusKafka {
		return "Kafka " + kafka.Version
	}
	return "NATS " + broker.Version
}

func newReport(s settled) *Report {
	return &Report{Seed: s.Seed, For: s.For, Broker: brokerOf(s.Bus), Lanes: s.Lanes, Writers: s.Writers, Dir: s.Dir,
		Stalls: []check.Stall{}, Takeovers: []inject.Takeover{}, Drains: []inject.Drain{},
		Open: []sample.OpenTransaction{}, Setbacks: []sample.Setback{}, DeadLetters: []string{}, Broken: []string{},
		Faults: map[plan.Kind]int{}, Failed: map[plan.Kind]int{}, LeftOut: s.leftOut}
}

// Clean says that no promise was broken.
func (r *Report) Clean() bool { return len(r.Broken) == 0 }

func (r *Report) breach(format string, args ...any) {
	r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
}

// compare judges every hop. passed gives the times of the faults that may
// have held up events on their way through services.
func (r *Report) compare(ledger *check.Ledger, hops []check.Hop, publishers map[string]string, passed func(services ...string) []check.Window) {
	r.Events = len(ledger.Events)
	for _, hop := range hops {
		verdict := ledger.Judge(hop)
		r.Hops = append(r.Hops, verdict)
		for _, finding := range verdict.First {
			r.breach("%s", finding)
		}
		if strings.HasPrefix(hop.Name, "outbox") || strings.HasPrefix(hop.Name, "set aside") {
			continue // events are there when they are committed, or when somebody looks
		}
		for _, outbox := range slices.Sorted(maps.Keys(publishers)) {
			windows := passed(append([]string{publishers[outbox]}, hop.Services...)...)
			r.Stalls = append(r.Stalls, ledger.Stalls(ledger.Of(hop, outbox), outbox, windows))
		}
	}
	for _, stall := range r.Stalls {
		if stall.Quiet > mostStall {
			r.breach("stalled at %s: no event of %s arrived for %s though one waited and no fault was on, from %s",
				stall.Hop, stall.Outbox, stall.Quiet.Round(time.Millisecond), stall.From.Format(time.TimeOnly))
		}
	}
	if len(ledger.Events) == 0 {
		r.breach("nothing was published, so nothing was shown")
	}
}

// observe takes what was seen on the way.
func (r *Report) observe(s *session) {
	for _, a := range s.injector.Applied() {
		if a.Problem != "" {
			r.Failed[a.Kind]++
		} else {
			r.Faults[a.Kind]++
		}
	}
	r.Takeovers = append(r.Takeovers, s.injector.Takeovers()...)
	r.Drains = append(r.Drains, s.injector.Drains()...)
	r.Most, r.Connections = s.watch.Most(), s.watch.Connections()
	r.Setbacks = append(r.Setbacks, s.watch.Setbacks()...)
	r.Open = append(r.Open, s.watch.Open()...)
	for _, relay := range s.world.Relays() {
		if worst := relay.Log.Worst(); worst.PerSecond > r.Repeated.PerSecond {
			r.Repeated = worst
		}
	}
}

// conclude names what else was broken, and tells the first event's story.
func (r *Report) conclude(ledger *check.Ledger, hops []check.Hop, applied []*inject.Applied) {
	for _, letter := range r.DeadLetters {
		r.breach("set aside though nothing was wrong with it: %s", letter)
	}
	for _, o := range r.Open {
		r.breach("a transaction of a relay in %s stayed open for %.1f s while it waited for something else, after: %s", o.Database, o.Seconds, o.Query)
	}
	if len(r.Setbacks) > 0 {
		first := r.Setbacks[0]
		r.breach("the position of %s moved back %d times, first from id %d to %d in save %d: an owner that was superseded has saved",
			first.Pipeline, len(r.Setbacks), first.From, first.To, first.Save)
	}
	r.concludeTimes()
	r.concludeUse()
	if first, ok := check.First(r.Hops); ok {
		r.Story = story(first, ledger, hops, applied)
	}
}

func (r *Report) concludeTimes() {
	for _, t := range r.Takeovers {
		limit := takeoverAfterKill
		if t.Kind == plan.RelayStop {
			limit = takeoverAfterTerm
		}
		if !t.Disturbed && (t.Owned == 0 || t.Owned > limit) {
			r.breach("%s was taken over %s after %s", t.Service, t.Owned.Round(time.Millisecond), t.Kind)
		}
	}
	for _, d := range r.Drains {
		if d.Took > mostDrain && !d.Disturbed {
			r.breach("the relay %s took %s to end after SIGTERM", d.Relay, d.Took.Round(time.Millisecond))
		}
	}
}

func (r *Report) concludeUse() {
	for _, name := range slices.Sorted(maps.Keys(r.Most)) {
		if r.Most[name].Bytes > mostBytes {
			r.breach("the relay %s used %d MiB of memory", name, r.Most[name].Bytes>>20)
		}
	}
	var before sample.Use
	for _, use := range r.Before {
		before.Goroutines, before.Files = max(before.Goroutines, use.Goroutines), max(before.Files, use.Files)
	}
	for _, name := range slices.Sorted(maps.Keys(r.After)) {
		after := r.After[name]
		if after.Goroutines > before.Goroutines+goroutineSlack {
			r.breach("the relay %s ended with %d goroutines; none had more than %d at the begin", name, after.Goroutines, before.Goroutines)
		}
		if after.Files > before.Files+fileSlack {
			r.breach("the relay %s ended with %d open files; none had more than %d at the begin", name, after.Files, before.Files)
		}
	}
	if r.Repeated.PerSecond > mostRepeats {
		r.breach("a relay said the same %.1f times a second: %s", r.Repeated.PerSecond, r.Repeated.Line)
	}
}

// write puts the report beside the other artefacts.
func (r *Report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "report.json"), append(text, '\n'), 0o644)
	}
	return err
}
