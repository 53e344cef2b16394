package e2e

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// What had committed before a later event of its key was published arrives
// first, and events of one transaction in the order they were published;
// without lanes that holds for a whole outbox, keys or not. Kills and restarts
// never break it.
func TestPromise04Order(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	f := newTraffic(t, extended(t), extended(t), broker.URL(), "")
	a, b := startRelay(t, f.orders.dsn), startRelay(t, f.payments.dsn)
	f.write(t, 3)
	f.writers.Go(func() { f.serially(t) })
	for range 2 {
		f.awaitMore(t, 150)
		a.kill(t)
		a = startRelay(t, f.orders.dsn)
		f.awaitMore(t, 150)
		broker.Kill(t)
		broker.Start(t)
		f.awaitMore(t, 150)
		b.kill(t)
		b = startRelay(t, f.payments.dsn)
	}
	f.awaitMore(t, 150)
	f.settled(t)
	var last int64
	serial := f.payments.events(t, `select event_id, coalesce(key, ''), (payload->>'n')::bigint from tide.payment_triggers_inbox
		where payload->>'serial' = 'true' order by id`)
	for _, e := range serial {
		if e.n != last+1 {
			t.Fatalf("of the writer who writes alone, event %d (key %q) came after %d", e.n, e.key, last)
		}
		last = e.n
	}
	t.Logf("%d events of one writer arrived in the order of their publishing, whatever their keys", len(serial))
}

// serially publishes one event after another, now with this key, now with
// that, now with none: three in one transaction, and then one each.
func (f *traffic) serially(t *testing.T) {
	number := 0
	f.sessions(t.Context(), f.orders.dsn, func(conn *pgx.Conn) error {
		for _, many := range []int{3, 1, 1} {
			key := []string{"'x'", "'y'", "null"}[number%3]
			sql := fmt.Sprintf(`insert into ledger select tide.outbox_publish('order_events', 'orders',
				jsonb_build_object('n', i, 'serial', true), key => %s), coalesce(%s, ''), i from generate_series(%d, %d) i`, key, key, number+1, number+many)
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				return err
			}
			number += many
		}
		return nil
	})
}
