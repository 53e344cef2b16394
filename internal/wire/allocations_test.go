//go:build !race

package wire

import (
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
)

// What an event costs in memory does not depend on the machine, so the
// ceilings are tight: whoever crosses one says why.
func TestAllocationsOfAnEvent(t *testing.T) {
	m := message.Message{
		EventID: "0191f6a0-0000-7000-8000-00000000000a", Source: "/" + databaseID + "/orders", Outbox: "orders", Stream: "orders", Key: "17",
		Op: "insert", EventType: "order.created", Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Payload: []byte(`{"a": 1}`), Destination: "events.orders.insert",
	}
	codec := Binary{NATS()}
	e, err := codec.Encode(&m)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, most float64, do func() error) {
		t.Helper()
		n := testing.AllocsPerRun(1000, func() {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %v allocations", what, n)
		if n > most {
			t.Errorf("%s takes %v allocations, and %v are the most", what, n, most)
		}
	}
	check("encode", 2, func() error { _, err := codec.Encode(&m); return err })
	check("decode", 0, func() error { _, err := codec.Decode(&e); return err })
}
