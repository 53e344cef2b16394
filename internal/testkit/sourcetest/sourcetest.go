// Package sourcetest is the conformance suite that every source passes. It
// asserts what the engine relies on and refuses to look inside a source.
package sourcetest

import (
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// batch is how many messages are fetched at once, at most.
const batch = 50

// Features are the honest differences between sources.
type Features struct {
	// Technology is the source's name in configurations, such as "nats"; it
	// stands in internal/builtin's list.
	Technology string
	// Variant tells several sources of one technology apart.
	Variant string
	// Lacks says what the technology does not have, and why; see package conformance.
	Lacks conformance.Lacks

	// Headers says that the far end keeps headers.
	Headers bool
	// HeadersKept are the odd headers that the far end keeps, where it cannot
	// keep all of sinktest.OddHeaders; where it is empty it keeps those.
	HeadersKept []message.Header
	// HeadersAdded says that the far end adds headers of its own.
	HeadersAdded bool
	// MessageIDs says that the far end keeps message ids.
	MessageIDs bool
	// OrderByKey says that the far end keeps the order of each key, and not
	// that of all messages. Where it is false the order of all is asserted.
	OrderByKey bool
	// MaxUnacknowledged is how many messages the source of the harness delivers
	// at most while none is acknowledged; 0 when there is no such bound.
	MaxUnacknowledged int
}

// Refusal is a source whose session must fail, and what the sentence must say.
type Refusal = conformance.Refusal[relay.Source]

// Harness is one fresh far end. A case fails when a field that it needs is not
// set and Features.Lacks does not say why.
type Harness struct {
	// New makes a source that is not opened; all of a harness read through
	// the same durable place, for the same database.
	New func(t testing.TB) relay.Source
	// Publish stores envelopes at the far end, in order.
	Publish func(t testing.TB, envelopes []message.Envelope)
	// Crash ends the source's session as the death of its process would.
	Crash func(t testing.TB, source relay.Source)
	// Restart stops the far end and starts it again with its data.
	Restart func(t testing.TB)
	// Destination is a subject that the source reads.
	Destination string

	// Kill ends the far end at once, as SIGKILL does, and starts it again with its data.
	Kill func(t testing.TB)
	// Cut breaks all connections that the source has, as a network does; those
	// that are made later pass.
	Cut func(t testing.TB)
	// Freeze makes the far end hang with its connections open, until thaw is called.
	Freeze func(t testing.TB) (thaw func())
	// Wrong makes sources whose sessions must fail, one for each of conformance.Refusals.
	Wrong map[conformance.Need]func(t testing.TB) Refusal
	// WriteEvents stores events at the far end, in order, as the CloudEvents SDK
	// and its own protocol binding write them, in binary or in structured mode.
	WriteEvents func(t testing.TB, events []event.Event, structured bool)
}

// has says which of the needs of cases are met.
func has(f Features, h Harness) map[conformance.Need]bool {
	met := map[conformance.Need]bool{
		conformance.Headers:             f.Headers,
		conformance.EventID:             f.MessageIDs,
		conformance.UnacknowledgedLimit: f.MaxUnacknowledged > 0,
		conformance.CloudEvents:         h.WriteEvents != nil,
		conformance.Restart:             h.Restart != nil,
		conformance.Kill:                h.Kill != nil,
		conformance.Cut:                 h.Cut != nil,
		conformance.Freeze:              h.Freeze != nil,
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
		Technology: features.Technology, End: "source", Variant: features.Variant, Lacks: features.Lacks,
		Features: features, Start: start, Has: has,
	}, cases())
}

// Disturbs says whether the case that t runs stops, kills or freezes the far
// end: a harness whose far end is shared starts one of its own for that.
func Disturbs(t testing.TB) bool {
	return conformance.Disturbs(conformance.NeedsOf(t, cases()))
}
