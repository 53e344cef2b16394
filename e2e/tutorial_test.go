package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// startOrders are all the orders in which three relays can be started.
var startOrders = [][3]string{
	{"orders", "payments", "shipping"}, {"orders", "shipping", "payments"},
	{"payments", "orders", "shipping"}, {"payments", "shipping", "orders"},
	{"shipping", "orders", "payments"}, {"shipping", "payments", "orders"},
}

func (b *bus) named(name string) *service {
	return map[string]*service{"orders": b.orders, "payments": b.payments, "shipping": b.shipping}[name]
}

func TestTutorialInEveryStartOrder(t *testing.T) {
	t.Parallel()
	for _, order := range startOrders {
		t.Run(strings.Join(order[:], " then "), func(t *testing.T) {
			t.Parallel()
			b := newBus(t, startBroker(t).URL())
			for _, name := range order {
				startRelay(t, b.named(name).dsn)
			}
			b.checkTutorial(t)
		})
	}
}

func TestTutorialWithTheBrokerStartedLast(t *testing.T) {
	t.Parallel()
	broker := stoppedBroker(t)
	b := newBus(t, broker.URL())
	for _, name := range startOrders[0] {
		startRelay(t, b.named(name).dsn)
	}
	b.orders.awaitStatus(t, "orders-to-nats", "r.state = 'waiting' and r.reason like '%broker%'")
	b.payments.awaitStatus(t, "orders-for-payments", "r.state = 'waiting'")
	broker.Start(t)
	b.checkTutorial(t)
}

// checkTutorial publishes, beside what the tutorial's own SQL published, and
// checks content, order, filter and that what was rolled back never arrives.
func (b *bus) checkTutorial(t *testing.T) {
	t.Helper()
	want := []string{"ORD-001 order.created"}
	for i := range 20 {
		id, eventType := fmt.Sprintf("ORD-%03d", 100+i), "order.created"
		if i%3 == 2 {
			eventType = "order.cancelled"
		}
		b.order(t, id, eventType)
		want = append(want, id+" "+eventType)
		b.rollBack(t, fmt.Sprintf("ROLLED-BACK-%d", i))
	}
	created := slices.DeleteFunc(slices.Clone(want), func(s string) bool { return strings.HasSuffix(s, "cancelled") })

	if got := b.payments.arrived(t, "payment_triggers", len(want)); !slices.Equal(got, want) {
		t.Errorf("payments got %q, want %q", got, want)
	}
	if got := b.shipping.arrived(t, "shipping_triggers", len(created)); !slices.Equal(got, created) {
		t.Errorf("shipping got %q, want %q", got, created)
	}
	b.checkFirstOrder(t)
	b.work(t, len(want))
}

// checkFirstOrder compares the tutorial's own event with what the tutorial typed.
func (b *bus) checkFirstOrder(t *testing.T) {
	t.Helper()
	const sql = `
		select concat_ws('|', stream, op, event_type, coalesce(key, '-'), payload, headers)
		from tide.payment_triggers_inbox where payload->>'order_id' = 'ORD-001'`
	const want = `orders|insert|order.created|-|` +
		`{"items": [{"qty": 2, "sku": "WIDGET-A"}, {"qty": 1, "sku": "GADGET-B"}], "total": 149.99, ` +
		`"order_id": "ORD-001", "event_type": "order.created", "customer_id": "CUST-42"}|{}`
	if got := one[string](t, b.payments, sql); got != want {
		t.Errorf("the tutorial's order arrived as\n%s, want\n%s", got, want)
	}
}

func (b *bus) rollBack(t *testing.T, id string) {
	t.Helper()
	tx, err := b.orders.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.publish(t, tx, id, "order.created")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// work processes the payments' inbox as the tutorial does.
func (b *bus) work(t *testing.T, want int) {
	t.Helper()
	processed := 0
	for {
		const sql = `
			select count(*) filter (where tide.inbox_mark_processed('payment_triggers', p.id))
			from (select id, payload from tide.inbox_pending('payment_triggers') limit 10) p`
		n := one[int](t, b.payments, sql)
		if n == 0 {
			break
		}
		processed += n
	}
	if processed != want {
		t.Errorf("%d messages were marked processed, want %d", processed, want)
	}
}

func TestServiceThatWasDownCatchesUpInOrder(t *testing.T) {
	t.Parallel()
	b := newBus(t, startBroker(t).URL())
	startRelay(t, b.orders.dsn)
	payments := startRelay(t, b.payments.dsn)
	b.payments.arrived(t, "payment_triggers", 1)
	payments.kill(t)

	want := []string{"ORD-001 order.created"}
	for i := range 300 {
		id := fmt.Sprintf("WHILE-DOWN-%03d", i)
		b.order(t, id, "order.created")
		want = append(want, id+" order.created")
	}
	startRelay(t, b.payments.dsn)
	if got := b.payments.arrived(t, "payment_triggers", len(want)); !slices.Equal(got, want) {
		t.Errorf("payments got %d messages, want %d in order: %q", len(got), len(want), got)
	}
}

func TestRelaysKilledInMidTrafficLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	b := newBus(t, startBroker(t).URL())
	orders, payments := startRelay(t, b.orders.dsn), startRelay(t, b.payments.dsn)
	want := []string{"ORD-001 order.created"}
	for i := range 400 {
		id := fmt.Sprintf("ORD-%04d", 1000+i)
		b.order(t, id, "order.created")
		want = append(want, id+" order.created")
		if i%100 == 50 {
			orders.kill(t)
			payments.kill(t)
			orders, payments = startRelay(t, b.orders.dsn), startRelay(t, b.payments.dsn)
		}
	}
	if got := b.payments.arrived(t, "payment_triggers", len(want)); !slices.Equal(got, want) {
		t.Errorf("payments got %d messages, want %d in order: %q", len(got), len(want), got)
	}
}

func TestSigtermEndsWithinFiveSecondsAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBus(t, startBroker(t).URL())
	relays := []*relay{startRelay(t, b.orders.dsn), startRelay(t, b.payments.dsn)}
	b.payments.arrived(t, "payment_triggers", 1)
	const published = 20_000
	b.orders.execute(t, `
		select count(tide.outbox_publish('order_events', 'orders',
			jsonb_build_object('event_type', 'order.created', 'order_id', i::text)))
		from generate_series(1, $1) i`, published)
	for _, r := range relays {
		if took := r.stop(t); took > 5*time.Second {
			t.Errorf("the relay took %s to end", took)
		}
	}
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	got := b.payments.arrived(t, "payment_triggers", published+1)
	for i := 1; i <= published; i++ {
		if want := fmt.Sprintf("%d order.created", i); got[i] != want {
			t.Fatalf("message %d is %q, want %q", i, got[i], want)
		}
	}
	if len(got) != published+1 {
		t.Errorf("payments got %d messages, want %d", len(got), published+1)
	}
}

func TestBrokerRestartedInMidTraffic(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	b := newBus(t, broker.URL())
	startRelay(t, b.orders.dsn)
	startRelay(t, b.payments.dsn)
	want := []string{"ORD-001 order.created"}
	for i := range 200 {
		id := fmt.Sprintf("ORD-%04d", 1000+i)
		b.order(t, id, "order.created")
		want = append(want, id+" order.created")
		if i == 100 {
			broker.Kill(t)
			broker.Start(t)
		}
	}
	if got := b.payments.arrived(t, "payment_triggers", len(want)); !slices.Equal(got, want) {
		t.Errorf("payments got %d messages, want %d in order: %q", len(got), len(want), got)
	}
}
