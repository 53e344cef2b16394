// Package sinktest is the conformance suite that every sink passes. It
// asserts what the engine relies on and refuses to look inside a sink.
package sinktest

import (
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// Features are the honest differences between sinks.
type Features struct {
	// Technology is the sink's name in configurations, such as "nats"; it
	// stands in internal/builtin's list.
	Technology string
	// Variant tells several sinks of one technology apart, such as "atomic".
	Variant string
	// Lacks says what the technology does not have, and why; see package conformance.
	Lacks conformance.Lacks

	// DropsDuplicates says that the far end stores an event id once.
	DropsDuplicates bool
	// MaxBytes is a size of body that the far end of the harness refuses; 0 when there is none.
	MaxBytes int
	// Headers says that the far end keeps headers.
	Headers bool
	// HeadersKept are the odd headers that the far end keeps, where it cannot
	// keep all of OddHeaders; where it is empty it keeps those.
	HeadersKept []message.Header
	// EventIDs says that the far end keeps the event id in a place of its own,
	// and that Stored returns it from there.
	EventIDs bool
	// OrderByKey says that the far end keeps the order of each key, and not
	// that of all events. Where it is false the order of all is asserted.
	OrderByKey bool
	// LongestDestination is how many bytes a destination may have; 0 where the
	// transport sets no bound. What a longer one is filled in for is refused.
	LongestDestination int
}

// Refusal is a sink whose session must fail, and what the sentence must say.
type Refusal = conformance.Refusal[relay.Sink]

// Harness is one fresh far end. A case fails when a field that it needs is not
// set and Features.Lacks does not say why.
type Harness struct {
	// New makes a sink that is not opened.
	New func(t testing.TB) relay.Sink
	// Stored returns what the far end holds, in its order.
	Stored func(t testing.TB) []message.Envelope
	// Restart stops the far end and starts it again with its data.
	Restart func(t testing.TB)
	// Destination is a subject that the sink may send to.
	Destination string

	// Kill ends the far end at once, as SIGKILL does, and starts it again with its data.
	Kill func(t testing.TB)
	// Cut breaks all connections that the sink has, as a network does; those
	// that are made later pass.
	Cut func(t testing.TB)
	// Lose makes the far end lose all that it has stored; it goes on, empty. The
	// sink is a relay.Witness then.
	Lose func(t testing.TB)
	// Freeze makes the far end hang with its connections open, until thaw is called.
	Freeze func(t testing.TB) (thaw func())
	// Poison changes an event into one that is refused for good, for another
	// reason than its size.
	Poison func(e *message.Envelope)
	// Wrong makes sinks whose sessions must fail, one for each of conformance.Refusals.
	Wrong map[conformance.Need]func(t testing.TB) Refusal
	// Template is a template of destinations that the sink may send to, with
	// {op} at its end, such as "events.orders.{op}".
	Template string
	// Prepare makes a destination; nil where it need not be there before
	// something is sent to it.
	Prepare func(t testing.TB, destination string)
	// ReadEvents returns what the far end holds, in its order, as the
	// CloudEvents SDK and its own protocol binding read it.
	ReadEvents func(t testing.TB) []event.Event
}

// has says which of the needs of cases are met.
func has(f Features, h Harness) map[conformance.Need]bool {
	met := map[conformance.Need]bool{
		conformance.Headers:       f.Headers,
		conformance.EventID:       f.EventIDs,
		conformance.Deduplication: f.DropsDuplicates,
		conformance.SizeLimit:     f.MaxBytes > 0,
		conformance.Destinations:  h.Template != "",
		conformance.CloudEvents:   h.ReadEvents != nil,
		conformance.Restart:       h.Restart != nil,
		conformance.Kill:          h.Kill != nil,
		conformance.Cut:           h.Cut != nil,
		conformance.Freeze:        h.Freeze != nil,
		conformance.Lose:          h.Lose != nil,
		conformance.Poison:        h.Poison != nil,
	}
	for _, need := range conformance.Refusals() {
		met[need] = h.Wrong[need] != nil
	}
	return met
}

// Run runs the suite; start makes a fresh far end for each case.
func Run(t *testing.T, features Features, start func(t *testing.T) Harness) {
	t.Helper()
	conformance.Run(t, conformance.Subject[Features, Harness]{
		Technology: features.Technology, End: "sink", Variant: features.Variant, Lacks: features.Lacks,
		Features: features, Start: start, Has: has,
	}, cases())
}

// Disturbs says whether the case that t runs stops, kills or freezes the far
// end: a harness whose far end is shared starts one of its own for that.
func Disturbs(t testing.TB) bool {
	return conformance.Disturbs(conformance.NeedsOf(t, cases()))
}
