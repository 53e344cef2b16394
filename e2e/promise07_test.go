package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// policies are three pipelines of one outbox, each with its own way of dealing
// with an event that will not be taken.
var policies = []string{"block", "park_key", "dead_letter"}

// A poison event is retried, then blocked, parked or put aside by policy,
// whole and with its error; other keys, pipelines and outboxes flow on. What
// waits survives kills of relays and broker, and resumes in order.
func TestPromise07OneBadEventHurtsNoOneElse(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	f := newTraffic(t, extended(t), extended(t), broker.URL(), "")
	for _, policy := range policies {
		f.addPolicy(t, policy, broker.URL(), "payload.n >= 0")
	}
	relay := startRelay(t, f.orders.dsn)
	startRelay(t, f.payments.dsn)
	write := func(from, to int) {
		t.Helper()
		for i := from; i <= to; i++ {
			f.orders.execute(t, fmt.Sprintf("select write('k%d', 1)", 1+i%3))
		}
	}
	write(1, 30)
	poison := one[string](t, f.orders, `select tide.outbox_publish('order_events', 'orders', '{"whole": "é\\u00e9", "a": [1, 2.50]}', '{"h": "v"}', key => 'k1')::text`)
	write(31, 60)

	behind := one[int](t, f.orders, `select count(*) from ledger where key = 'k1' and n > 10`)
	f.has(t, "park_key", 60-behind)
	f.has(t, "dead_letter", 60)
	f.has(t, "block", 30)
	f.orders.awaitStatus(t, "block", `r.state = 'blocked' and r.reason like '%k1%' and r.reason like '%payload.n%'`)
	f.orders.awaitStatus(t, "park_key", fmt.Sprintf(`r.state = 'running' and r.dead_letters = %d`, 1+behind))
	f.orders.awaitStatus(t, "dead_letter", `r.state = 'running' and r.dead_letters = 1`)

	relay.kill(t)
	broker.Kill(t)
	broker.Start(t)
	startRelay(t, f.orders.dsn)
	write(61, 90)
	behind = one[int](t, f.orders, `select count(*) from ledger where key = 'k1' and n > 10`)
	f.has(t, "park_key", 90-behind)
	f.has(t, "dead_letter", 90)
	f.has(t, "block", 30)
	const whole = `select count(*) from tide.dead_letters where event_id = $1 and key = 'k1' and payload = '{"whole": "é\\u00e9", "a": [1, 2.50]}'::jsonb
		and headers = '{"h": "v"}'::jsonb and error like '%payload.n%'`
	if n := one[int](t, f.orders, whole, poison); n != 2 {
		t.Errorf("%d of 2 poison events are kept whole with their error", n)
	}

	// Mended, all of it goes out, in order.
	for _, policy := range policies {
		f.addPolicy(t, policy, broker.URL(), "true")
		f.orders.execute(t, `select tide.dead_letter_retry($1, array(select id from tide.dead_letters where pipeline = $1))`, policy)
	}
	for _, policy := range policies {
		f.has(t, policy, 91)
		f.inOrder(t, policy, poison)
	}
	f.orders.awaitStatus(t, "park_key", `r.dead_letters = 0`)
}

func inboxOf(policy string) string { return "by_" + policy }

func (f *traffic) addPolicy(t *testing.T, policy, url, filter string) {
	t.Helper()
	subject := strings.ReplaceAll(policy, "_", "-")
	f.orders.execute(t, `select tide.relay_set_outbox($1, 'order_events', $2::jsonb)`, policy, fmt.Sprintf(
		`{"sink_type": "nats", "url": %q, "subject": "%s.{op}", "on_error": %q, "transform": {"language": "cel", "filter": %q}}`, url, subject, policy, filter))
	f.payments.execute(t, `select tide.inbox_create($1) where to_regclass('tide.' || $1 || '_inbox') is null`, inboxOf(policy))
	f.payments.execute(t, `select tide.relay_set_inbox($1, $1, $2::jsonb)`, inboxOf(policy), fmt.Sprintf(
		`{"source_type": "nats", "url": %q, "subject": "%s.>", "durable_name": %q}`, url, subject, subject))
}

// has waits until an inbox has exactly that many events.
func (f *traffic) has(t *testing.T, policy string, n int) {
	t.Helper()
	eventually(t, func() (bool, string) {
		got := one[int](t, f.payments, `select count(*) from tide.`+inboxOf(policy)+`_inbox`)
		return got == n, fmt.Sprintf("with %s %d events arrived, not %d; status: %s", policy, got, n, f.orders.status(t))
	})
}

// inOrder checks the order within each key. Under dead_letter the poison event
// itself comes when it comes: nothing waited for it.
func (f *traffic) inOrder(t *testing.T, policy, poison string) {
	t.Helper()
	last := map[string]int64{}
	for _, e := range f.payments.events(t, `select event_id, key, coalesce((payload->>'n')::bigint, 0) from tide.`+inboxOf(policy)+`_inbox order by id`) {
		switch {
		case e.id == poison && policy == "dead_letter":
			continue
		case e.id == poison:
			e.n = 10 // it came after the tenth of its key
			if last[e.key] != 10 {
				t.Errorf("with %s the poison event came after %d, not after 10", policy, last[e.key])
			}
		case e.n != last[e.key]+1:
			t.Errorf("with %s event %d of key %s came after %d", policy, e.n, e.key, last[e.key])
		}
		last[e.key] = e.n
	}
}
