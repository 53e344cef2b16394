// Package check compares what publishers committed with what arrived at each
// hop. It reads from nowhere: whoever has the rows gives them to it, so that
// it can be tested without a server.
package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Event is one row of a ledger: what a transaction published, written by that
// transaction.
type Event struct {
	ID     string
	Outbox string
	// Line is what order is kept along: outbox and key, or for events without
	// a key outbox and writer. Seq grows along it.
	Line string
	Seq  int64
	Type string
	// Transaction is the writer's own number of it, XID the database's.
	Transaction int64
	XID         string
	// How is the kind of transaction.
	How       string
	Published time.Time
	// Committed is when the writer knew; zero when it never did.
	Committed time.Time
}

// available is when relays could have seen the event.
func (e Event) available() time.Time {
	if e.Committed.IsZero() {
		return e.Published
	}
	return e.Committed
}

// Arrival is an event at the end of a hop.
type Arrival struct {
	ID string
	// Place is its number there: a sequence, a row's id.
	Place int64
	At    time.Time
	// Note is what else is to be told of it.
	Note string
}

// Hop is one place that events come to, with its arrivals in their order.
type Hop struct {
	Name     string
	Arrivals []Arrival
	// Wants says which events should arrive; nil means all.
	Wants func(Event) bool
	// Services are those that an event passes on its way here.
	Services []string
	// Since says that what was published before it may be gone by now.
	Since time.Time
	// MayRepeat allows an event to come more than once; the first one counts.
	MayRepeat bool
	// Unordered leaves the order alone, where places say nothing about it.
	Unordered bool
}

// Of is the hop as the events of one outbox pass it.
func (l *Ledger) Of(hop Hop, outbox string) Hop {
	some := hop
	some.Arrivals = nil
	for _, a := range hop.Arrivals {
		if e := l.Event(a.ID); e != nil && e.Outbox == outbox {
			some.Arrivals = append(some.Arrivals, a)
		}
	}
	return some
}

// Trouble is a kind of broken promise.
type Trouble string

// The kinds of trouble that a hop may have.
const (
	Lost       Trouble = "lost"
	Doubled    Trouble = "doubled"
	Invented   Trouble = "invented"
	Disordered Trouble = "disordered"
)

// Finding is the first event of a kind of trouble at a hop.
type Finding struct {
	Hop     string
	Trouble Trouble
	ID      string
	// Event is its row in the ledger; nil when it was invented.
	Event *Event
	// Behind is the event that came before it though it is a later one, when
	// the trouble is disorder.
	Behind *Event
}

// String is the finding in a sentence.
func (f Finding) String() string {
	text := fmt.Sprintf("%s at %s: event %s", f.Trouble, f.Hop, f.ID)
	if f.Event != nil {
		text += fmt.Sprintf(", number %d of %s", f.Event.Seq, f.Event.Line)
	}
	if f.Behind != nil {
		text += fmt.Sprintf(", came after number %d (%s)", f.Behind.Seq, f.Behind.ID)
	}
	return text
}

// Verdict is the comparison at one hop.
type Verdict struct {
	Hop        string `json:"hop"`
	Wanted     int    `json:"wanted"`
	Arrived    int    `json:"arrived"`
	Lost       int    `json:"lost"`
	Doubled    int    `json:"doubled"`
	Invented   int    `json:"invented"`
	Disordered int    `json:"disordered"`
	// Repeated are those that came again where that is allowed.
	Repeated int `json:"repeated"`
	// First holds the first finding of each kind, in the order of arrival.
	First []Finding `json:"-"`
}

// Clean says that nothing was broken.
func (v Verdict) Clean() bool { return v.Lost+v.Doubled+v.Invented+v.Disordered == 0 }

// Ledger is what was committed.
type Ledger struct {
	Events []Event
	byID   map[string]int
}

// NewLedger takes the rows of all ledgers.
func NewLedger(events []Event) *Ledger {
	l := &Ledger{Events: events, byID: make(map[string]int, len(events))}
	for i, e := range events {
		l.byID[e.ID] = i
	}
	return l
}

// Event returns the event with that id, or nil.
func (l *Ledger) Event(id string) *Event {
	i, ok := l.byID[id]
	if !ok {
		return nil
	}
	return &l.Events[i]
}

// Judge compares a hop with the ledger.
func (l *Ledger) Judge(hop Hop) Verdict {
	j := judgement{ledger: l, hop: hop, seen: make([]bool, len(l.Events)), last: map[string]int{}}
	j.Hop, j.Arrived = hop.Name, len(hop.Arrivals)
	for _, a := range hop.Arrivals {
		j.take(a)
	}
	var missing []int
	for i, e := range l.Events {
		if hop.Wants != nil && !hop.Wants(e) {
			continue
		}
		if !j.seen[i] && e.Published.Before(hop.Since) {
			continue
		}
		j.Wanted++
		if !j.seen[i] {
			missing = append(missing, i)
		}
	}
	j.Lost = len(missing)
	if len(missing) > 0 {
		first := slices.MinFunc(missing, func(a, b int) int { return l.Events[a].Published.Compare(l.Events[b].Published) })
		j.note(0, Finding{Trouble: Lost, ID: l.Events[first].ID, Event: &l.Events[first]})
	}
	return j.Verdict
}

type judgement struct {
	Verdict
	ledger *Ledger
	hop    Hop
	seen   []bool
	last   map[string]int // by line, the event that is farthest
}

func (j *judgement) take(a Arrival) {
	i, known := j.ledger.byID[a.ID]
	if !known || j.hop.Wants != nil && !j.hop.Wants(j.ledger.Events[i]) {
		j.note(j.Invented, Finding{Trouble: Invented, ID: a.ID, Event: j.ledger.Event(a.ID)})
		j.Invented++
		return
	}
	e := &j.ledger.Events[i]
	if j.seen[i] {
		if j.hop.MayRepeat {
			j.Repeated++
			return
		}
		j.note(j.Doubled, Finding{Trouble: Doubled, ID: a.ID, Event: e})
		j.Doubled++
		return
	}
	j.seen[i] = true
	farthest, begun := j.last[e.Line]
	if !begun || j.ledger.Events[farthest].Seq < e.Seq {
		j.last[e.Line] = i
		return
	}
	if !j.hop.Unordered {
		j.note(j.Disordered, Finding{Trouble: Disordered, ID: a.ID, Event: e, Behind: &j.ledger.Events[farthest]})
		j.Disordered++
	}
}

// note keeps the first finding of a kind.
func (j *judgement) note(before int, f Finding) {
	if before == 0 {
		f.Hop = j.hop.Name
		j.First = append(j.First, f)
	}
}

// First returns the finding to look at first: at the earliest hop that has
// any, whatever is wrong behind it follows from it.
func First(verdicts []Verdict) (Finding, bool) {
	for _, v := range verdicts {
		if len(v.First) > 0 {
			return slices.MinFunc(v.First, func(a, b Finding) int { return cmp.Compare(rank(a.Trouble), rank(b.Trouble)) }), true
		}
	}
	return Finding{}, false
}

func rank(t Trouble) int {
	return slices.Index([]Trouble{Invented, Doubled, Disordered, Lost}, t)
}
