package e2e

import (
	"fmt"
	"testing"
	"time"
)

// The event id is unique among databases and stable across retries and
// rewinds: relays are killed while the broker forgets ids at once, all of it
// is sent again by a rewind, another database of the same make publishes to
// the same subjects, and every event has its effect once.
func TestPromise05OnceInEffect(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	f := newTraffic(t, extended(t), extended(t), broker.URL(), `, "duplicate_window": "100ms"`)
	twin := extended(t)
	twin.execute(t, `select tide.outbox_create('order_events')`)
	twin.execute(t, `select tide.relay_set_outbox($1, 'order_events', $2::jsonb)`, ordersPipeline,
		`{"sink_type": "nats", "url": "`+broker.URL()+`", "subject_template": "events.orders.{op}"}`)
	// Whoever comes first makes the stream, and only this pipeline asks for a
	// short memory of ids.
	a := startRelay(t, f.orders.dsn)
	f.orders.awaitStatus(t, ordersPipeline, `r.state = 'running'`)
	b := startRelay(t, f.payments.dsn)
	startRelay(t, twin.dsn)
	f.write(t, 3)
	for range 2 {
		f.awaitMore(t, 150)
		a.kill(t)
		f.pause(200 * time.Millisecond) // the broker's memory of ids is over
		a = startRelay(t, f.orders.dsn)
		f.awaitMore(t, 150)
		b.kill(t)
		b = startRelay(t, f.payments.dsn)
	}
	f.halt()
	want := one[int](t, f.orders, `select count(*) from ledger`)
	f.orders.execute(t, `select tide.relay_rewind($1, '-infinity')`, ordersPipeline)
	f.orders.execute(t, `select write('k1', 1)`)
	f.orders.awaitStatus(t, ordersPipeline, `r.state = 'running' and r.lag_events = 0`)

	var twins []string
	for i := range 10 {
		twins = append(twins, one[string](t, twin, `select tide.outbox_publish('order_events', 'orders', jsonb_build_object('n', $1::int), key => 'k1')::text`, i))
	}
	eventually(t, func() (bool, string) {
		got := one[int](t, f.payments, `select count(*) from tide.payment_triggers_inbox where event_id = any ($1)`, twins)
		return got == len(twins), fmt.Sprintf("%d of %d events of another database arrived", got, len(twins))
	})
	if n := one[int](t, f.payments, `select count(distinct source) from tide.payment_triggers_inbox`); n != 2 {
		t.Errorf("the events of two databases name %d sources", n)
	}
	f.payments.execute(t, `delete from tide.inbox_message where event_id = any ($1)`, twins)
	stored := broker.stored(t, "events.orders.insert")
	t.Logf("%d events lie %d times in the stream", want, stored)
	if stored < want+want/2 {
		t.Errorf("%d events lie %d times in the stream: hardly any was sent twice, and nothing was tried", want, stored)
	}
	f.settled(t)
}

// stored is how many messages the stream that takes a subject holds.
func (b *broker) stored(t *testing.T, subject string) int {
	t.Helper()
	js := b.server.JetStream(t)
	name, err := js.StreamNameBySubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return int(stream.CachedInfo().State.Msgs)
}
