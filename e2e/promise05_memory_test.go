package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// Two databases that were one until a backup send what they share, and what
// each published since, to a third. It has every event once; also when its
// messages are cleaned and one of the two sends everything again, later than
// the broker remembers.
func TestPromise05OnceInEffectAfterARestore(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, nil)
	r.orders.run(t, `select tide.relay_set_outbox($1, 'order_events', jsonb_build_object('sink_type', 'nats', 'url', $2::text,
		'subject_template', 'events.orders.{op}', 'duplicate_window', '100ms'))`, ordersOut, r.broker.URL())
	relays := r.startRelays(t)
	r.publish(t, 10)
	r.arrive(t)
	relays[0].kill(t)
	r.publish(t, 10) // both will send these

	copied := r.copyOrders(t)
	startRelay(t, r.orders.dsn, "--http-addr", "127.0.0.1:0")
	startRelay(t, copied.dsn, "--http-addr", "127.0.0.1:0")
	r.arrive(t)
	copied.stopped(t, ordersOut)
	copied.adopt(t, ordersOut)
	for n := -1; n >= -10; n-- {
		copied.run(t, `select tide.outbox_publish('order_events', 'orders', jsonb_build_object('n', $1::int), key => 'k')`, n)
	}
	r.publish(t, 10)
	r.once(t, -10, 30)

	r.payments.run(t, `select tide.inbox_mark_processed('payment_triggers', array(select id from tide.inbox_pending('payment_triggers')))`)
	for range 2 { // a part is closed, and a retention later cleaned
		r.payments.run(t, `update tide.inbox_part set opened_at = opened_at - interval '30 days', closed_at = closed_at - interval '30 days'`)
		r.payments.run(t, `update tide.inbox_rotation set horizon = horizon - interval '29 days'`)
		eventually(t, func() (bool, string) {
			step := one[string](t, r.payments, `select tide.inbox_maintain()::text`)
			return one[bool](t, r.payments, `select not ($1::jsonb ->> 'more')::boolean and jsonb_array_length($1::jsonb -> 'waiting') = 0`, step), step
		})
	}
	if left := r.taken(t); len(left) != 0 {
		t.Fatalf("cleaning left %v", left)
	}
	r.payments.run(t, `update tide.inbox_rotation set horizon = now() + interval '1 hour'`) // it is not a month later after all
	copied.run(t, `select tide.relay_rewind($1, '-infinity')`, ordersOut)
	copied.run(t, `select tide.outbox_publish('order_events', 'orders', '{"n": -11}', key => 'k')`)
	r.once(t, -11, -11)
}

// copyOrders makes a copy of the orders database.
func (r *restorable) copyOrders(t *testing.T) *service {
	t.Helper()
	admin := &service{pool: pgtest.Pool(t, r.server.DSN("postgres"))}
	eventually(t, func() (bool, string) {
		admin.run(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = 'orders'`)
		_, err := admin.pool.Exec(t.Context(), `create database orders_copy template orders`)
		return err == nil, fmt.Sprint(err)
	})
	r.orders.pool.Reset()
	dsn := r.server.DSN("orders_copy")
	return &service{dsn: dsn, pool: pgtest.Pool(t, dsn)}
}

// once waits until the inbox has the events from one number to another, 0 not
// among them, each once.
func (r *restorable) once(t *testing.T, from, to int) {
	t.Helper()
	var want []int
	for n := from; n <= to; n++ {
		if n != 0 {
			want = append(want, n)
		}
	}
	eventually(t, func() (bool, string) {
		got := r.taken(t)
		return len(got) >= len(want), fmt.Sprintf("%d of %d are in the inbox: %v; status: %s", len(got), len(want), got, r.payments.status(t))
	})
	got := r.taken(t)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("the inbox has %v, want %d to %d once", got, from, to)
	}
}
