package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// direct is the tutorial's services without a broker: the pipelines of the
// order service lead straight to the inboxes of the others.
func direct(t *testing.T) *bus {
	t.Helper()
	b := newBus(t, "nats://127.0.0.1:1")
	b.orders.execute(t, `select tide.relay_delete('orders-to-nats')`)
	b.payments.execute(t, `select tide.relay_delete('orders-for-payments')`)
	b.shipping.execute(t, `select tide.relay_delete('orders-for-shipping')`)
	b.orders.execute(t, `select tide.relay_set_outbox('orders-to-payments', 'order_events',
		jsonb_build_object('sink_type', 'pg_inbox', 'url', $1::text, 'inbox', 'payment_triggers'))`, b.payments.dsn)
	b.orders.execute(t, `select tide.relay_set_outbox('orders-to-shipping', 'order_events',
		jsonb_build_object('sink_type', 'pg_inbox', 'url', $1::text, 'inbox', 'shipping_triggers',
			'transform', jsonb_build_object('filter', 'payload.event_type == ''order.created''')))`, b.shipping.dsn)
	return b
}

func TestTutorialFromDatabaseToDatabase(t *testing.T) {
	t.Parallel()
	b := direct(t)
	startRelay(t, b.orders.dsn)
	b.checkTutorial(t)
}

// The relay is killed in the middle of batches again and again, with one lane
// and with several: all arrives, once, and in the order of each key.
func TestRelayThatIsKilledBetweenDatabasesLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d lanes", lanes), func(t *testing.T) {
			t.Parallel()
			b := direct(t)
			b.orders.execute(t, `select tide.relay_set_outbox('orders-to-payments', 'order_events',
				jsonb_build_object('sink_type', 'pg_inbox', 'url', $1::text, 'inbox', 'payment_triggers', 'batch_size', 50, 'lanes', $2::integer))`, b.payments.dsn, lanes)
			const events, kills = 8000, 5
			b.orders.execute(t, `select count(tide.outbox_publish('order_events', 'orders',
				jsonb_build_object('event_type', 'order.created', 'order_id', i::text), key => (i % 7)::text)) from generate_series(1, $1) i`, events)
			r := startRelay(t, b.orders.dsn)
			for kill := range kills {
				b.payments.arrived(t, "payment_triggers", (kill+1)*events/(kills+2))
				r.kill(t)
				r = startRelay(t, b.orders.dsn)
			}
			got := b.payments.arrived(t, "payment_triggers", events+1)
			if len(got) != events+1 {
				t.Errorf("payments got %d messages, want %d", len(got), events+1)
			}
			b.checkKeys(t, events)
		})
	}
}

// checkKeys says whether the messages of each key are in order, without a gap.
func (b *bus) checkKeys(t *testing.T, events int) {
	t.Helper()
	const sql = `
		select count(*) filter (where m.n = coalesce(m.before + 7, m.first)) = $1
		from (select (payload->>'order_id')::integer as n,
			lag((payload->>'order_id')::integer) over (partition by key order by id) as before,
			min((payload->>'order_id')::integer) over (partition by key) as first
			from tide.payment_triggers_inbox where key is not null) m`
	if !one[bool](t, b.payments, sql, events) {
		t.Error("the messages of a key are out of order, or some are missing")
	}
}

// An outbox is filled from another database while the relay is killed; what it
// publishes goes on by a pipeline of its own, to a third one.
func TestEventsPassAnOutboxOfAnotherDatabaseOnceAcrossKills(t *testing.T) {
	t.Parallel()
	b := direct(t)
	hub := newService(t)
	hub.execute(t, `create extension pg_tide`)
	hub.execute(t, `select tide.outbox_create('all_orders')`)
	hub.execute(t, `select tide.relay_set_outbox('hub-to-shipping', 'all_orders',
		jsonb_build_object('sink_type', 'pg_inbox', 'url', $1::text, 'inbox', 'from_hub'))`, b.shipping.dsn)
	b.shipping.execute(t, `select tide.inbox_create('from_hub')`)
	b.orders.execute(t, `select tide.relay_set_outbox('orders-to-hub', 'order_events',
		jsonb_build_object('sink_type', 'pg_outbox', 'url', $1::text, 'outbox', 'all_orders', 'batch_size', 20))`, hub.dsn)
	want := []string{"ORD-001 order.created"}
	for i := range 600 {
		id := fmt.Sprintf("ORD-%04d", 1000+i)
		b.order(t, id, "order.created")
		want = append(want, id+" order.created")
	}
	startRelay(t, hub.dsn)
	r := startRelay(t, b.orders.dsn)
	for _, n := range []int{100, 250, 400} {
		b.shipping.arrived(t, "from_hub", n)
		r.kill(t)
		r = startRelay(t, b.orders.dsn)
	}
	if got := b.shipping.arrived(t, "from_hub", len(want)); !slices.Equal(got, want) {
		t.Errorf("%d messages came through the hub, want %d in order", len(got), len(want))
	}
	if got := one[string](t, hub, `select count(*) || ' ' || count(distinct event_id) from tide.outbox_event`); got != fmt.Sprintf("%[1]d %[1]d", len(want)) {
		t.Errorf("the hub's outbox holds %s events and ids, want %d", got, len(want))
	}
}

// The target crashes in the middle of batches. The status says what the
// pipeline waits for; nothing is open at the source meanwhile.
func TestTargetDatabaseThatCrashesIsWaitedForAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := direct(t)
	server := pgtest.Own(t, throwaway.Options{Durable: true})
	dsn := server.DSN("postgres")
	if err := schematest.Install(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	target := &service{dsn: dsn, typed: pgtest.Conn(t, dsn), pool: pgtest.Pool(t, dsn)}
	target.execute(t, `select tide.inbox_create('far')`)
	b.orders.execute(t, `select tide.relay_set_outbox('orders-far', 'order_events',
		jsonb_build_object('sink_type', 'pg_inbox', 'url', $1::text, 'inbox', 'far', 'batch_size', 20))`, dsn)
	const events = 4000
	b.orders.execute(t, `select count(tide.outbox_publish('order_events', 'orders',
		jsonb_build_object('event_type', 'order.created', 'order_id', i::text))) from generate_series(1, $1) i`, events)
	startRelay(t, b.orders.dsn)
	for _, n := range []int{500, 1500} {
		target.arrived(t, "far", n)
		if err := server.Crash(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.orders.awaitStatus(t, "orders-far", `r.state = 'waiting' and r.reason like '%database "postgres" at 127.0.0.1:%'`)
		if open := one[string](t, b.orders, `select coalesce(string_agg(query, '; '), '') from pg_stat_activity
			where datname = current_database() and application_name = 'pg-tide' and xact_start < clock_timestamp() - interval '3 seconds'`); open != "" {
			t.Errorf("a transaction is open at the source while the target is gone: %s", open)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		target.pool.Reset()
		eventually(t, func() (bool, string) {
			return target.pool.Ping(context.WithoutCancel(t.Context())) == nil, "the target answers again"
		})
	}
	got := target.arrived(t, "far", events+1)
	if len(got) != events+1 {
		t.Errorf("%d messages arrived, want %d", len(got), events+1)
	}
	for i := 1; i < len(got); i++ {
		if want := fmt.Sprintf("%d order.created", i); got[i] != want {
			t.Fatalf("message %d is %q, want %q", i, got[i], want)
		}
	}
	b.orders.awaitStatus(t, "orders-far", `r.state = 'running'`)
}

// What is wrong with the target stands in the status, and what mends it lets
// the pipeline go on by itself.
func TestMissingInboxOfAnotherDatabaseIsNamedAndFoundOnceItIsThere(t *testing.T) {
	t.Parallel()
	b := direct(t)
	b.orders.execute(t, `select tide.relay_set_outbox('orders-late', 'order_events',
		jsonb_build_object('sink_type', 'pg_inbox', 'url', $1::text, 'inbox', 'late'))`, b.payments.dsn)
	startRelay(t, b.orders.dsn)
	b.orders.awaitStatus(t, "orders-late", `r.state = 'misconfigured' and r.reason like '%inbox "late" does not exist%'`)
	b.payments.arrived(t, "payment_triggers", 1) // the others do not wait
	b.payments.execute(t, `select tide.inbox_create('late')`)
	if got := b.payments.arrived(t, "late", 1); !strings.HasPrefix(got[0], "ORD-001") {
		t.Errorf("got %q", got)
	}
}

// A target that is put back to an earlier state, as a restore or a promotion
// does, is sent again what it lost; what it still has is there once.
func TestTargetDatabaseThatLostItsLastMessagesIsFilledAgain(t *testing.T) {
	t.Parallel()
	b := direct(t)
	b.orders.execute(t, `select tide.relay_delete('orders-to-shipping')`)
	r := startRelay(t, b.orders.dsn)
	want := []string{"ORD-001 order.created"}
	for _, until := range []int{100, 250} {
		for i := len(want); i < until; i++ {
			id := fmt.Sprintf("ORD-%04d", 1000+i)
			b.order(t, id, "order.created")
			want = append(want, id+" order.created")
		}
		b.payments.arrived(t, "payment_triggers", len(want))
		b.orders.awaitStatus(t, "orders-to-payments", "r.lag_events = 0")
	}
	r.stop(t)
	b.payments.execute(t, `set session_replication_role = replica`)
	b.payments.execute(t, `delete from tide.payment_triggers_inbox where id > (select min(id) + 149 from tide.payment_triggers_inbox)`)
	b.payments.execute(t, `reset session_replication_role`)
	if n := len(b.payments.inbox(t, "payment_triggers")); n != 150 {
		t.Fatalf("%d messages are left, want 150", n)
	}
	startRelay(t, b.orders.dsn)
	if got := b.payments.arrived(t, "payment_triggers", len(want)); !slices.Equal(got, want) {
		t.Errorf("payments have %d messages, want %d in order", len(got), len(want))
	}
	b.orders.awaitStatus(t, "orders-to-payments", `r.last_error like '%inbox "payment_triggers" of database%has lost events that it had acknowledged%sent again%'`)
}
