package e2e

import (
	"testing"
	"time"
)

// Lanes work the keys of a pipeline in parallel, and the order of each key,
// and that of the events without a key, holds through broken sessions, killed
// relays and a change of their number while events flow.
func TestLanesKeepTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	f := newTraffic(t, extended(t), extended(t), broker.URL(), `, "lanes": 4`)
	f.lanes(t, 4, 4)
	a, b := startRelay(t, f.orders.dsn), startRelay(t, f.payments.dsn)
	f.write(t, 3)
	f.writers.Go(func() { f.serially(t) })
	step := func(what string, break_ func()) {
		t.Helper()
		begun := time.Now()
		f.wide(t, 600)
		break_()
		f.awaitMore(t, 300)
		t.Logf("%s: events flow after %s", what, time.Since(begun).Round(time.Second))
	}
	step("the broker is killed", func() {
		broker.Kill(t)
		broker.Start(t)
	})
	step("the relays' sessions in the databases are terminated", func() {
		for _, s := range []*service{f.orders, f.payments} {
			s.execute(t, `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name = 'pg-tide'`)
		}
	})
	step("the relays are killed right behind a change to one lane", func() {
		f.lanes(t, 1, 1)
		a.kill(t)
		b.kill(t)
		a, b = startRelay(t, f.orders.dsn), startRelay(t, f.payments.dsn)
	})
	step("four lanes again", func() { f.lanes(t, 4, 3) })
	step("two lanes", func() { f.lanes(t, 2, 2) })
	f.settled(t)
	for _, r := range []*relay{a, b} {
		if r.logs("panic") {
			t.Error("a relay panicked")
		}
	}
}

// lanes sets how many lanes the outbox's and the inbox's pipeline have.
func (f *traffic) lanes(t *testing.T, forward, reverse int) {
	t.Helper()
	for s, of := range map[*service]struct {
		pipeline string
		lanes    int
	}{f.orders: {ordersPipeline, forward}, f.payments: {paymentsPipeline, reverse}} {
		set := "relay_set_outbox"
		if s == f.payments {
			set = "relay_set_inbox"
		}
		s.execute(t, `select tide.`+set+`(p.name, case p.direction when 'forward' then 'order_events' else 'payment_triggers' end,
			p.config || jsonb_build_object('lanes', $2::int)) from tide.pipeline p where p.name = $1`, of.pipeline, of.lanes)
	}
}

// wide publishes events of two hundred keys at once.
func (f *traffic) wide(t *testing.T, events int) {
	t.Helper()
	f.orders.execute(t, `
		insert into ledger
		select tide.outbox_publish('order_events', 'orders', jsonb_build_object('n', i), key => 'w' || i % 200), 'w' || i % 200, i
		from (select coalesce(max(l.n), 0) as n from ledger l where l.key like 'w%') done, generate_series(done.n + 1, done.n + $1::bigint) i`, events)
}
