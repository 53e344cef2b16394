package clients

import (
	"context"
	stdsql "database/sql"
	"encoding/json"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/lib/pq" // a driver that is not pgx's
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func database(t *testing.T) *tidetest.DB {
	db := tidetest.Open(t, pgtest.Server(t, 0).DSN("postgres"))
	db.Exec(`create table orders (id text primary key, total numeric)`)
	db.Exec(`create table payments (order_id text primary key, total numeric)`)
	db.Exec(`select tide.outbox_create('order_events')`)
	db.Exec(`select tide.inbox_create('payment_triggers')`)
	return db
}

// Each of them does the job: an order, and one payment of it.
func TestTheSameJobIsDoneByAllThree(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, db *tidetest.DB)
		publish func(context.Context, *pgxpool.Pool, Order) error
		carry   func(db *tidetest.DB)
		work    func(context.Context, *pgxpool.Pool) error
	}{
		// In production a relay carries it, from one database to another.
		"pg_tide": {publish: TidePublish, work: TideWork, carry: func(db *tidetest.DB) {
			for _, e := range db.Published("order_events") {
				db.Deliver("payment_triggers", e)
			}
		}},
		"river": {publish: RiverPublish, work: RiverWork, prepare: func(t *testing.T, db *tidetest.DB) {
			migrator, err := rivermigrate.New(riverpgxv5.New(db.Pool), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil); err != nil {
				t.Fatal(err)
			}
		}},
		"watermill": {publish: WatermillPublish, work: WatermillWork, prepare: func(t *testing.T, db *tidetest.DB) {
			subscriber, err := sql.NewSubscriber(sql.BeginnerFromPgx(db.Pool), sql.SubscriberConfig{
				SchemaAdapter: sql.DefaultPostgreSQLSchema{}, OffsetsAdapter: sql.DefaultPostgreSQLOffsetsAdapter{}, InitializeSchema: true,
			}, watermill.NopLogger{})
			if err != nil {
				t.Fatal(err)
			}
			if err := subscriber.SubscribeInitialize("order_events"); err != nil {
				t.Fatal(err)
			}
			if err := subscriber.Close(); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			db := database(t)
			if c.prepare != nil {
				c.prepare(t, db)
			}
			ctx, stop := context.WithCancel(t.Context())
			if err := c.publish(ctx, db.Pool, Order{ID: "ORD-001", Total: 149.99}); err != nil {
				t.Fatal(err)
			}
			if c.carry != nil {
				c.carry(db)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.work(ctx, db.Pool) }()
			limit := time.After(tidetest.Patience)
			look := time.NewTicker(20 * time.Millisecond)
			defer look.Stop()
			for paid := 0; paid == 0; {
				select {
				case <-look.C:
				case err := <-ended:
					t.Fatal("the worker ended", err)
				case <-limit:
					t.Fatal("nobody paid")
				}
				if err := db.Pool.QueryRow(ctx, `select count(*) from payments join orders on id = order_id and payments.total = orders.total`).Scan(&paid); err != nil {
					t.Fatal(err)
				}
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// Publishing asks nothing of a driver that database/sql does not promise.
func TestAnotherDriverPublishesAsWell(t *testing.T) {
	db := database(t)
	other, err := stdsql.Open("postgres", db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	events := []tide.Event{{Type: "a", Payload: `q"u{o}te\`, Key: "k", Headers: map[string]any{"h": "v"}}, {Payload: nil}}
	if _, err := tide.PublishMany(t.Context(), tide.SQL(tx), "order_events", events); err != nil {
		t.Fatal(err)
	}
	if _, err := tide.Publish(t.Context(), tide.SQL(tx), "order_events", events[0]); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	db.AssertPublished("order_events", events[0], events[1], events[0])
}

// The worker's span is the child of the publisher's.
func TestATraceGoesThroughTheBus(t *testing.T) {
	db := database(t)
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	p := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	ctx, span := tracer.Start(t.Context(), "publish")
	if _, err := tide.Publish(ctx, db.Pool, "order_events", tide.Event{Payload: 1}, tide.HeadersFrom(Inject(p))); err != nil {
		t.Fatal(err)
	}
	span.End()
	id := db.Deliver("payment_triggers", db.Published("order_events")[0])
	recorder := tidetest.NewRecorder()
	w, err := tide.NewWorker(db.Pool, tide.WorkerConfig{Inbox: "payment_triggers", Metrics: recorder, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	w.Use(Spans(tracer, p))
	w.HandleOthers(func(context.Context, *tide.Message) error { return nil })
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(running) }()
	recorder.WaitFor(t, id, tide.Processed)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	all := spans.Ended()
	if len(all) != 2 || all[1].Parent().SpanID() != all[0].SpanContext().SpanID() || all[1].SpanContext().TraceID() != all[0].SpanContext().TraceID() {
		t.Errorf("the spans are %v", all)
	}
}

// What the SDK of CloudEvents writes we read, and the other way round.
func TestTheSDKOfCloudEventsUnderstandsUsAndWeIt(t *testing.T) {
	theirs := cloudevents.NewEvent()
	theirs.SetID("C234-1234-1234")
	theirs.SetSource("https://example.com/orders")
	theirs.SetType("order.created")
	theirs.SetSubject("ORD-001")
	theirs.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC))
	theirs.SetDataSchema("https://example.com/order.json")
	theirs.SetExtension("tenant", "acme")
	theirs.SetExtension("priority", 5)
	theirs.SetExtension("vip", true)
	if err := theirs.SetData(cloudevents.ApplicationJSON, Order{ID: "ORD-001", Total: 149.99}); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	var ours tide.CloudEvent
	if err := json.Unmarshal(text, &ours); err != nil {
		t.Fatal(err)
	}
	if text, err = json.Marshal(ours); err != nil {
		t.Fatal(err)
	}
	back := cloudevents.NewEvent()
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if err := back.Validate(); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(back.Context, theirs.Context) || string(back.Data()) != string(theirs.Data()) {
		t.Errorf("came back as\n%s; it was\n%s", back, theirs)
	}
}
