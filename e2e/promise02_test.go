package e2e

import (
	"testing"
)

// Every committed event reaches every pipeline of its outbox, whatever the
// order of ids and commits, across kills of relays, broker and database.
func TestPromise02NothingLost(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	server, orders, payments := ownServer(t, nil)
	f := newTraffic(t, orders, payments, broker.URL(), "")
	// a second pipeline of the same outbox, to a place of its own
	orders.execute(t, `select tide.relay_set_outbox('second', 'order_events', $1::jsonb)`,
		`{"sink_type": "nats", "url": "`+broker.URL()+`", "subject": "second.{op}"}`)
	payments.execute(t, `select tide.inbox_create('second')`)
	payments.execute(t, `select tide.relay_set_inbox('second', 'second', $1::jsonb)`,
		`{"source_type": "nats", "url": "`+broker.URL()+`", "subject": "second.>", "durable_name": "second"}`)
	a, b := startRelay(t, orders.dsn), startRelay(t, payments.dsn)
	f.write(t, 5)
	for range 2 {
		f.awaitMore(t, 150)
		a.kill(t)
		a = startRelay(t, orders.dsn)
		f.awaitMore(t, 150)
		b.kill(t)
		b = startRelay(t, payments.dsn)
		f.awaitMore(t, 150)
		broker.Kill(t)
		broker.Start(t)
		f.awaitMore(t, 150)
		crash(t, server, server.Kill, orders, payments)
	}
	f.awaitMore(t, 150)
	f.settled(t)
	want := one[int](t, orders, `select count(*) from ledger`)
	eventually(t, func() (bool, string) {
		return one[int](t, payments, `select count(*) from tide.second_inbox`) == want, "the second pipeline brought all; status: " + payments.status(t)
	})
}
