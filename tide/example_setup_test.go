package tide_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

// exampleTB lends the helpers of tests to an example, which has no *testing.T.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (e *exampleTB) Helper()                        {}
func (e *exampleTB) Name() string                   { return "example" }
func (e *exampleTB) Context() context.Context       { return context.Background() }
func (e *exampleTB) Cleanup(f func())               { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Errorf(format string, a ...any) { fmt.Printf(format+"\n", a...) }
func (e *exampleTB) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
func (e *exampleTB) Fatal(a ...any)                 { panic(fmt.Sprint(a...)) }

// setUp gives an example a database of its own, with the outbox order_events,
// the inbox payment_triggers, and the tables orders and payments.
func setUp() (db *tidetest.DB, done func()) {
	t := &exampleTB{}
	db = database(t, 0)
	db.Exec(`select tide.outbox_create('order_events')`)
	db.Exec(`select tide.inbox_create('payment_triggers')`)
	db.Exec(`create table orders (id text primary key, total numeric)`)
	db.Exec(`create table payments (order_id text primary key, total numeric)`)
	return db, func() {
		for i := len(t.cleanups) - 1; i >= 0; i-- {
			t.cleanups[i]()
		}
	}
}

// Order is what the examples are about.
type Order struct {
	ID    string  `json:"order_id"`
	Total float64 `json:"total"`
}

// arrive has an order arrive in the inbox payment_triggers.
func arrive(db *tidetest.DB, o Order) {
	db.Deliver("payment_triggers", tide.Event{Type: "order.created", Key: o.ID, Payload: o})
}

// newWorker is a worker of payment_triggers that logs nothing.
func newWorker(db *tidetest.DB) (*tide.Worker, *tidetest.Recorder) {
	recorder := tidetest.NewRecorder()
	worker, err := tide.NewWorker(db.Pool, tide.WorkerConfig{Inbox: "payment_triggers", Metrics: recorder, Logger: quiet()})
	if err != nil {
		panic(err)
	}
	return worker, recorder
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// runUntil runs a worker until it has settled so many messages.
func runUntil(worker *tide.Worker, recorder *tidetest.Recorder, settled int) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- worker.Run(ctx) }()
	recorder.Wait(&exampleTB{}, settled)
	stop()
	if err := <-ended; err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// state prints what the inbox says of its messages.
func state(db *tidetest.DB) {
	var text string
	const look = `select string_agg(concat_ws(' ', key, case when processed_at is not null then 'processed' when dead_at is not null then 'dead' else 'waits' end,
		'attempts', attempts, last_error), e'\n' order by id) from tide.payment_triggers_inbox`
	if err := db.Pool.QueryRow(context.Background(), look).Scan(&text); err != nil {
		panic(err)
	}
	fmt.Println(text)
}
