package tidetest_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

// exampleTB lends the helpers of tests to an example, which has no *testing.T.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (e *exampleTB) Helper()                        {}
func (e *exampleTB) Context() context.Context       { return context.Background() }
func (e *exampleTB) Cleanup(f func())               { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Errorf(format string, a ...any) { fmt.Printf(format+"\n", a...) }
func (e *exampleTB) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
func (e *exampleTB) end() {
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
}

// setUp is a test with a database that has the outbox order_events and the
// inbox payment_triggers.
func setUp() (t *exampleTB, db *tidetest.DB) {
	t = &exampleTB{}
	db = tidetest.Open(t, server(t))
	db.Exec(`select tide.outbox_create('order_events')`)
	db.Exec(`select tide.inbox_create('payment_triggers')`)
	return t, db
}

// In a test of your own t is the *testing.T, and the DSN that of any server.
func ExampleOpen() {
	t := &exampleTB{}
	defer t.end()
	db := tidetest.Open(t, pgtest.Server(t, 0).DSN("postgres"))
	db.Exec(`select tide.outbox_create('order_events')`)
	fmt.Println(len(db.Published("order_events")))
	// Output: 0
}

// A database that the test has already.
func ExampleUse() {
	t, db := setUp()
	defer t.end()
	again := tidetest.Use(t, db.Pool)
	fmt.Println(len(again.Published("order_events")))
	// Output: 0
}

func ExampleT() {
	var t tidetest.T = &exampleTB{} // a *testing.T is one
	t.Errorf("it is %d", 1)
	// Output: it is 1
}

// What a service does between an inbox and an outbox, tested as a whole.
func ExampleDB() {
	t, db := setUp()
	defer t.end()

	recorder := tidetest.NewRecorder()
	worker, err := tide.NewWorker(db.Pool, tide.WorkerConfig{Inbox: "payment_triggers", Metrics: recorder, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("%v", err)
	}
	worker.HandleOthers(func(ctx context.Context, m *tide.Message) error {
		tx, err := tide.Tx(ctx)
		if err != nil {
			return err
		}
		_, err = tide.Publish(ctx, tx, "order_events", tide.Event{Type: "payment.made", Key: m.Key, Payload: m.Payload})
		return err
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- worker.Run(ctx) }()

	id := db.Deliver("payment_triggers", tide.Event{Type: "order.created", Key: "ORD-001", Payload: 149.99})
	recorder.WaitFor(t, id, tide.Processed)
	db.AssertPublished("order_events", tide.Event{Type: "payment.made", Key: "ORD-001", Payload: 149.99})
	stop()
	fmt.Println(<-ended)
	// Output: <nil>
}

func ExampleDB_Exec() {
	t, db := setUp()
	defer t.end()
	db.Exec(`select tide.outbox_disable($1)`, "order_events")
	_, err := tide.Publish(t.Context(), db.Pool, "order_events", tide.Event{Payload: 1})
	fmt.Println(err != nil)
	// Output: true
}

func ExampleDB_Published() {
	t, db := setUp()
	defer t.end()
	if _, err := tide.Publish(t.Context(), db.Pool, "order_events", tide.Event{Type: "order.created", Payload: 1}); err != nil {
		t.Fatalf("%v", err)
	}
	for _, e := range db.Published("order_events") {
		fmt.Printf("%s %s\n", e.Type, e.Payload)
	}
	// Output: order.created 1
}

// Only what is given is compared.
func ExampleDB_AssertPublished() {
	t, db := setUp()
	defer t.end()
	if _, err := tide.Publish(t.Context(), db.Pool, "order_events", tide.Event{Type: "order.created", Key: "ORD-001", Payload: 1}); err != nil {
		t.Fatalf("%v", err)
	}
	db.AssertPublished("order_events", tide.Event{Type: "order.created"})
	fmt.Println("it is there")
	// Output: it is there
}

func ExampleDB_Deliver() {
	t, db := setUp()
	defer t.end()
	id := db.Deliver("payment_triggers", tide.Event{Type: "order.created", Payload: 1})
	m := db.WaitMessage("payment_triggers", func(m *tide.Message) bool { return m.EventID == id })
	fmt.Println(m.Type, m.Source == tidetest.Source)
	// Output: order.created true
}

func ExampleDB_WaitMessage() {
	t, db := setUp()
	defer t.end()
	go db.Deliver("payment_triggers", tide.Event{Key: "ORD-001", Payload: 1}) // a relay does this
	m := db.WaitMessage("payment_triggers", func(m *tide.Message) bool { return m.Key == "ORD-001" })
	fmt.Println(string(m.Payload))
	// Output: 1
}

func ExampleNewRecorder() {
	config := tide.WorkerConfig{Inbox: "payment_triggers", Metrics: tidetest.NewRecorder()}
	fmt.Println(config.Metrics != nil)
	// Output: true
}

// A worker calls Claimed and Handled; the test waits for what it did.
func ExampleRecorder() {
	recorder := tidetest.NewRecorder()
	go recorder.Handled(&tide.Message{EventID: "e1"}, tide.Processed, 0)
	recorder.Wait(&exampleTB{}, 1)
	fmt.Println(recorder.Outcomes("e1"))
	// Output: [processed]
}

func ExampleRecorder_Claimed() {
	var metrics tide.Metrics = tidetest.NewRecorder()
	metrics.Claimed("payment_triggers", 10) // counts nothing
	// Output:
}

func ExampleRecorder_Handled() {
	recorder := tidetest.NewRecorder()
	recorder.Handled(&tide.Message{EventID: "e1"}, tide.Failed, 0)
	recorder.Handled(&tide.Message{EventID: "e1"}, tide.Processed, 0)
	fmt.Println(recorder.Outcomes("e1"))
	// Output: [failed processed]
}

func ExampleRecorder_Outcomes() {
	fmt.Println(tidetest.NewRecorder().Outcomes("e1"))
	// Output: []
}

func ExampleRecorder_Wait() {
	recorder := tidetest.NewRecorder()
	for range 3 {
		go recorder.Handled(&tide.Message{EventID: "e1"}, tide.Processed, 0)
	}
	recorder.Wait(&exampleTB{}, 3)
	fmt.Println(len(recorder.Outcomes("e1")))
	// Output: 3
}

func ExampleRecorder_WaitFor() {
	recorder := tidetest.NewRecorder()
	go recorder.Handled(&tide.Message{EventID: "e1"}, tide.Dead, 0)
	recorder.WaitFor(&exampleTB{}, "e1", tide.Dead)
	fmt.Println("a dead letter")
	// Output: a dead letter
}
