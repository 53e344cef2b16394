package relay_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/relay"
	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

// Two services, each with its database and a relay within its process, and NATS
// between them; a worker of the library at the end.
func TestRelaysWithinServicesCarryAnEventFromOneToTheOther(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		broker := natstest.Start(t, natstest.Options{})
		dsn := pgtest.Server(t, major).DSN("postgres")
		orders, payments := tidetest.Open(t, dsn), tidetest.Open(t, dsn)
		orders.Exec(`select tide.outbox_create('order_events')`)
		orders.Exec(`select tide.relay_set_outbox('orders-to-nats', 'order_events', jsonb_build_object(
			'sink_type', 'nats', 'url', $1::text, 'subject_template', 'events.orders.{op}'))`, broker.URL())
		payments.Exec(`select tide.inbox_create('payment_triggers')`)
		payments.Exec(`select tide.relay_set_inbox('orders-for-payments', 'payment_triggers', jsonb_build_object(
			'source_type', 'nats', 'url', $1::text, 'subject', 'events.orders.>', 'durable_name', 'payment-service'))`, broker.URL())

		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 3)
		logger := slog.New(slog.NewTextHandler(t.Output(), nil))
		for _, db := range []*tidetest.DB{orders, payments} {
			go func() { ended <- relay.New(relay.Config{PostgresURL: db.DSN, Logger: logger}).Run(ctx) }()
		}
		recorder := tidetest.NewRecorder()
		worker, err := tide.NewWorker(payments.Pool, tide.WorkerConfig{Inbox: "payment_triggers", Metrics: recorder, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		type order struct{ ID string }
		paid := make(chan string, 1)
		tide.Handle(worker, "order.created", func(_ context.Context, m *tide.Message, o order) error {
			paid <- m.Key + o.ID
			return nil
		})
		go func() { ended <- worker.Run(ctx) }()

		id, err := tide.Publish(t.Context(), orders.Pool, "order_events", tide.Event{Type: "order.created", Key: "k", Payload: order{"ORD-001"}})
		if err != nil {
			t.Fatal(err)
		}
		if m := payments.WaitMessage("payment_triggers", func(m *tide.Message) bool { return m.EventID == id }); !strings.HasSuffix(m.Source, "/order_events") {
			t.Errorf("its source is %q", m.Source)
		}
		recorder.WaitFor(t, id, tide.Processed)
		if got := <-paid; got != "kORD-001" {
			t.Errorf("the handler got %q", got)
		}
		stop()
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestARelayThatIsSetUpWronglySaysSo(t *testing.T) {
	err := relay.New(relay.Config{PostgresURL: "postgres://user:s3cret@host:port/db", Logger: slog.New(slog.DiscardHandler)}).Run(t.Context())
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Run returned %v", err)
	}
}
