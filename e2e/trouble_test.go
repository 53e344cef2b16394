package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

func TestWrongConfigurationIsSaidAndMendedWithoutRestart(t *testing.T) {
	t.Parallel()
	b := newBus(t, startBroker(t).URL())
	right := one[string](t, b.orders, `select config::text from tide.pipeline where name = 'orders-to-nats'`)
	set := func(config string) {
		b.orders.execute(t, `select tide.relay_set_outbox('orders-to-nats', 'order_events', $1::jsonb)`, config)
	}
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	b.payments.arrived(t, "payment_triggers", 1)

	for _, c := range []struct{ config, condition string }{
		{`{"sink_type": "nats", "url": "nats://127.0.0.1:1"}`, `r.state = 'waiting' and r.reason like '%127.0.0.1:1%'`},
		{`{"sink_type": "nats", "url": "${env:PG_TIDE_TEST_NO_SUCH}"}`, `r.state = 'misconfigured' and r.reason like '%PG_TIDE_TEST_NO_SUCH%'`},
		{`{"sink_type": "nats", "url": "` + b.nats + `", "subject_template": "events.{nope}"}`, `r.state = 'misconfigured' and r.reason like '%{nope}%'`},
		{`{"sink_type": "nats", "url": "` + b.nats + `", "transform": {"filter": "payload.("}}`, `r.state = 'misconfigured' and r.reason like '%payload.(%'`},
	} {
		if !b.orders.accepts(t, c.config) {
			continue // SQL has refused it already, which is better still
		}
		set(c.config)
		b.orders.awaitStatus(t, "orders-to-nats", c.condition)
	}
	set(right)
	b.order(t, "MENDED", "order.created")
	got := b.payments.arrived(t, "payment_triggers", 2)
	if want := []string{"ORD-001 order.created", "MENDED order.created"}; !slices.Equal(got, want) {
		t.Errorf("payments got %q, want %q", got, want)
	}
	b.orders.awaitStatus(t, "orders-to-nats", `r.state = 'running' and r.reason is null`)
}

// accepts tells whether relay_set_outbox takes the configuration.
func (s *service) accepts(t *testing.T, config string) bool {
	t.Helper()
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), `select tide.relay_set_outbox('orders-to-nats', 'order_events', $1::jsonb)`, config)
	return err == nil
}

func TestOnePipelinesTroubleTouchesNoOther(t *testing.T) {
	t.Parallel()
	b := newBus(t, startBroker(t).URL())
	b.orders.execute(t, `select tide.relay_set_outbox('nowhere', 'order_events', '{"sink_type": "nats", "url": "nats://127.0.0.1:1"}')`)
	b.payments.execute(t, `select tide.inbox_create('other')`)
	b.payments.execute(t, `select tide.relay_set_inbox('from-nowhere', 'other',
		'{"source_type": "nats", "url": "nats://127.0.0.1:1", "subject": "x"}')`)
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	b.order(t, "ORD-002", "order.created")
	b.payments.arrived(t, "payment_triggers", 2)
	b.orders.awaitStatus(t, "nowhere", `r.state = 'waiting'`)
	b.payments.awaitStatus(t, "from-nowhere", `r.state = 'waiting'`)
}

func TestPoisonMessagesAreKeptWholeAndThoseBehindThemArrive(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	b := newBus(t, broker.URL())
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	b.payments.arrived(t, "payment_triggers", 1)

	js := broker.server.JetStream(t)
	poison := map[string][]byte{
		"not JSON":           []byte("{not json"),
		"a null character":   []byte(`{"a": "\u0000"}`),
		"invalid UTF-8":      {'"', 0xff, 0xfe, '"'},
		"a lone surrogate":   []byte(`"\ud800"`),
		"nothing":            {},
		"a binary":           {0, 1, 2, 3},
		"two values, no one": []byte(`{} {}`),
	}
	for name, body := range poison {
		m := &natsgo.Msg{Subject: "events.orders.insert", Data: body, Header: natsgo.Header{"X-Name": {name}}}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	b.order(t, "BEHIND-THEM", "order.created")
	got := b.payments.arrived(t, "payment_triggers", 2)
	if got[len(got)-1] != "BEHIND-THEM order.created" {
		t.Errorf("payments got %q", got)
	}
	// Of one delivery the messages are inserted before the letters are added.
	eventually(t, func() (bool, string) {
		n := one[int](t, b.payments, `select count(*) from tide.dead_letters where pipeline = 'orders-for-payments'`)
		return n == len(poison), fmt.Sprintf("%d of %d poison messages are dead letters", n, len(poison))
	})
	rows, err := b.payments.pool.Query(t.Context(), `select coalesce(body, ''), error from tide.dead_letters where pipeline = 'orders-for-payments'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	kept := map[string]string{}
	for rows.Next() {
		var body []byte
		var reason string
		if err := rows.Scan(&body, &reason); err != nil {
			t.Fatal(err)
		}
		kept[string(body)] = reason
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for name, body := range poison {
		if kept[string(body)] == "" {
			t.Errorf("%s: the bytes are not among the dead letters %q", name, kept)
		}
	}
}

// It has the machine to itself, since it measures: not parallel.
func TestPipelinesAppearChangeAndVanishWithinASecond(t *testing.T) {
	broker := startBroker(t)
	b := newBus(t, broker.URL())
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	b.payments.arrived(t, "payment_triggers", 1)

	within := func(what string, since time.Time) {
		t.Logf("%s took %s", what, time.Since(since))
		if took := time.Since(since); took > time.Second {
			t.Errorf("%s took %s", what, took)
		}
	}
	start := time.Now()
	b.payments.execute(t, `select tide.inbox_create('second')`)
	b.payments.execute(t, `select tide.relay_set_inbox('second', 'second', jsonb_build_object('source_type', 'nats', 'url', $1::text, 'subject', 'events.orders.>'))`, b.nats)
	b.payments.arrived(t, "second", 1)
	within("a new pipeline's first message", start)

	start = time.Now()
	b.orders.execute(t, `select tide.relay_disable('orders-to-nats')`)
	b.orders.awaitStatus(t, "orders-to-nats", `r.state = 'paused' and r.owner is null`)
	within("pausing", start)
	b.order(t, "WHILE-PAUSED", "order.created")
	start = time.Now()
	b.orders.execute(t, `select tide.relay_enable('orders-to-nats')`)
	b.payments.arrived(t, "payment_triggers", 2)
	within("going on after a pause", start)

	b.payments.execute(t, `select tide.relay_delete('second')`)
	b.order(t, "AFTER-DELETE", "order.created")
	b.payments.arrived(t, "payment_triggers", 3)
	if got := b.payments.inbox(t, "second"); len(got) > 2 {
		t.Errorf("a deleted pipeline went on: %q", got)
	}
}

func TestSecondRelayTakesOverWhenTheFirstIsKilledOrStopped(t *testing.T) {
	t.Parallel()
	b := newBus(t, startBroker(t).URL())
	startRelay(t, b.payments.dsn)
	first := startRelay(t, b.orders.dsn)
	b.payments.arrived(t, "payment_triggers", 1)
	second := startRelay(t, b.orders.dsn)
	eventually(t, func() (bool, string) {
		return one[int](t, b.orders, `select count(*) from tide.relay_instance`) == 2, "two relays are known"
	})
	first.kill(t)
	b.order(t, "AFTER-KILL", "order.created")
	start := time.Now()
	b.payments.arrived(t, "payment_triggers", 2)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("take-over after SIGKILL took %s, the promise is 10 s", took)
	}
	third := startRelay(t, b.orders.dsn)
	eventually(t, func() (bool, string) {
		return one[int](t, b.orders, `select count(*) from tide.relay_instance where heartbeat_at > clock_timestamp() - interval '4 seconds'`) == 2, "two relays are alive"
	})
	second.stop(t)
	start = time.Now()
	b.order(t, "AFTER-TERM", "order.created")
	got := b.payments.arrived(t, "payment_triggers", 3)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("take-over after SIGTERM took %s", took)
	}
	want := []string{"ORD-001 order.created", "AFTER-KILL order.created", "AFTER-TERM order.created"}
	if !slices.Equal(got, want) {
		t.Errorf("payments got %q, want %q", got, want)
	}
	third.stop(t)
}

func TestAKeyCannotChooseItsOwnSubject(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	b := newBus(t, broker.URL())
	b.orders.execute(t, `select tide.relay_set_outbox('orders-to-nats', 'order_events',
		jsonb_build_object('sink_type', 'nats', 'url', $1::text, 'subject_template', 'events.orders.{key}'))`, b.nats)
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	for _, key := range []string{"a.>", "*", "with blanks", "a..b", "$SYS.x", "ключ", "new\nline"} {
		b.orders.execute(t, `select tide.outbox_publish('order_events', 'orders', jsonb_build_object('order_id', $1::text), key => $1)`, key)
	}
	b.payments.arrived(t, "payment_triggers", 8)
	js := broker.server.JetStream(t)
	name, err := js.StreamNameBySubject(t.Context(), "events.orders.x")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= 8; sequence++ {
		m, err := stream.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		if tail, inside := strings.CutPrefix(m.Subject, "events.orders."); !inside || strings.ContainsAny(tail, ".*> \n") {
			t.Errorf("an event left for subject %q", m.Subject)
		}
	}
}

func TestDeadLettersCanBeRetriedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	b := newBus(t, startBroker(t).URL())
	set := func(filter string) {
		b.orders.execute(t, `select tide.relay_set_outbox('orders-to-nats', 'order_events', jsonb_build_object('sink_type', 'nats', 'url', $1::text,
			'subject_template', 'events.orders.{op}', 'transform', jsonb_build_object('language', 'cel', 'filter', $2::text)))`, b.nats, filter)
	}
	set(`payload.total > 1.0 || payload.order_id == 'ORD-001'`)
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	b.order(t, "WITHOUT-TOTAL", "order.created")
	eventually(t, func() (bool, string) {
		return one[int](t, b.orders, `select count(*) from tide.dead_letters where error like '%there is no payload.total%'`) == 1, "the event is a dead letter; " + b.orders.status(t)
	})
	set(`true`)
	if out, err := command(t, "dead-letter", "retry", "orders-to-nats", "--all", "--postgres-url", b.orders.dsn); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.payments.arrived(t, "payment_triggers", 2)
	eventually(t, func() (bool, string) {
		return one[int](t, b.orders, `select count(*) from tide.dead_letters`) == 0, "no dead letter is left"
	})
}

func command(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	out, err := newCommand(t, arguments...).CombinedOutput()
	return fmt.Sprint(string(out)), err
}
