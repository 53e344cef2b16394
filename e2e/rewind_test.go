package e2e

import (
	"fmt"
	"slices"
	"testing"
)

func TestARewindIsFollowedByTheRelayAtWork(t *testing.T) {
	t.Parallel()
	b := newBus(t, startBroker(t).URL())
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	for i := range 20 {
		b.order(t, fmt.Sprintf("O%03d", i), "order.created")
	}
	got := b.payments.arrived(t, "payment_triggers", 21)
	b.orders.awaitSent(t, 21)
	owner := one[string](t, b.orders, `select owner_id::text from tide.relay_status where pipeline = 'orders-to-nats'`)

	rewind := newCommand(t, "rewind", "orders-to-nats", "--all", "--yes", "--postgres-url", b.orders.dsn)
	if out, err := rewind.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The position came back to where it was, from before the first event.
	b.orders.awaitStatus(t, "orders-to-nats", `r.owner_id = '`+owner+`' and exists (
		select from tide.pipeline_position p, tide.pipeline_position z
		where z.last_id = 0 and p.seq > z.seq and p.last_id >= 21)`)
	b.order(t, "LAST", "order.created")
	want := append(slices.Clone(got), "LAST order.created")
	if got := b.payments.arrived(t, "payment_triggers", 22); !slices.Equal(got, want) {
		t.Errorf("payments got %q\nwant %q", got, want)
	}
}
