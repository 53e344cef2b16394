//go:build !race

package nats

import (
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"github.com/pg-tide/pg-tide/internal/message"
)

// What an event costs in memory does not depend on the machine, so the
// ceilings are tight: whoever crosses one says why.
func TestAllocationsOfAMessage(t *testing.T) {
	e := message.Envelope{Destination: "events.insert", EventID: "0191f6a0-0000-7000-8000-00000000000a", Body: []byte("{}")}
	for _, name := range []string{"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-subject"} {
		e.Headers = append(e.Headers, message.Header{Name: name, Value: "x"})
	}
	var m natsgo.Msg
	n := testing.AllocsPerRun(1000, func() { toMessage(&e, &m) })
	t.Logf("to a message of the client: %v allocations", n)
	if n > 3 {
		t.Errorf("it takes %v allocations, and 3 are the most", n)
	}
	back := testing.AllocsPerRun(1000, func() { fromHeaders(m.Header) })
	t.Logf("from one: %v allocations", back)
	if back > 1 {
		t.Errorf("reading the headers takes %v allocations, and 1 is the most", back)
	}
}
