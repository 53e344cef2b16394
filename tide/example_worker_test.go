package tide_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/tide"
)

// A worker with a handler for one event type, run until its context ends.
func ExampleWorker() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001", Total: 149.99})

	worker, err := tide.NewWorker(db.Pool, tide.WorkerConfig{Inbox: "payment_triggers", Logger: quiet()})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	tide.Handle(worker, "order.created", func(_ context.Context, m *tide.Message, o Order) error {
		fmt.Println(m.Key, o.Total)
		cancel() // in a service: when it is told to stop
		return nil
	})
	fmt.Println(worker.Run(ctx))
	// Output:
	// ORD-001 149.99
	// <nil>
}

func ExampleNewWorker() {
	db, done := setUp()
	defer done()

	_, err := tide.NewWorker(db.Pool, tide.WorkerConfig{Inbox: "payment_triggers"})
	fmt.Println(err)
	_, err = tide.NewWorker(db.Pool, tide.WorkerConfig{})
	fmt.Println(err)
	// Output:
	// <nil>
	// worker of inbox "": no Inbox is given; name the one to work
}

// With what is worth setting; all but the inbox may be left out.
func ExampleWorkerConfig() {
	config := tide.WorkerConfig{
		Inbox:       "payment_triggers",
		Concurrency: 32,
		Lease:       time.Minute,
		StopTimeout: 20 * time.Second,
		TxOptions:   pgx.TxOptions{IsoLevel: pgx.Serializable},
	}
	fmt.Println(config.Inbox, config.Lease)
	// Output: payment_triggers 1m0s
}

func ExampleWorker_Run() {
	db, done := setUp()
	defer done()

	worker, err := tide.NewWorker(db.Pool, tide.WorkerConfig{Inbox: "missing", Logger: quiet()})
	if err != nil {
		panic(err)
	}
	worker.HandleOthers(func(context.Context, *tide.Message) error { return nil })
	fmt.Println("an inbox that is not there is an error at once:", worker.Run(context.Background()) != nil)
	// Output: an inbox that is not there is an error at once: true
}

// What one handler knows nothing of, another may do for all.
func ExampleWorker_Use() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001"})
	worker, recorder := newWorker(db)

	worker.Use(func(next tide.Handler) tide.Handler {
		return func(ctx context.Context, m *tide.Message) error {
			err := next(ctx, m)
			fmt.Println(m.Type, "ended with", err)
			return err
		}
	})
	tide.Handle(worker, "order.created", func(context.Context, *tide.Message, Order) error { return nil })
	runUntil(worker, recorder, 1)
	// Output: order.created ended with <nil>
}

// Messages of all types that have no handler of their own.
func ExampleWorker_HandleOthers() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001"})
	worker, recorder := newWorker(db)

	worker.HandleOthers(func(_ context.Context, m *tide.Message) error {
		fmt.Println("not interested in", m.Type)
		return nil
	})
	runUntil(worker, recorder, 1)
	// Output: not interested in order.created
}

func ExampleHandler() {
	var h tide.Handler = func(_ context.Context, m *tide.Message) error {
		fmt.Println(m.Type)
		return nil
	}
	_ = h(context.Background(), &tide.Message{Type: "order.created"}) // as a test of its own may call it
	// Output: order.created
}

// A payload that will never fit is not tried again.
func ExampleMiddleware() {
	db, done := setUp()
	defer done()
	db.Deliver("payment_triggers", tide.Event{Type: "order.created", Key: "ORD-001", Payload: "not an order"})
	worker, recorder := newWorker(db)

	var discard tide.Middleware = func(next tide.Handler) tide.Handler {
		return func(ctx context.Context, m *tide.Message) error {
			err := next(ctx, m)
			if e := new(tide.PayloadError); errors.As(err, &e) {
				return tide.Discard(errors.New("not an order"))
			}
			return err
		}
	}
	worker.Use(discard)
	tide.Handle(worker, "order.created", func(context.Context, *tide.Message, Order) error { return nil })
	runUntil(worker, recorder, 1)
	state(db)
	// Output: ORD-001 dead attempts 1 not an order
}

// The payload is read into the type that the handler takes.
func ExampleHandle() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001", Total: 149.99})
	worker, recorder := newWorker(db)

	tide.Handle(worker, "order.created", func(_ context.Context, _ *tide.Message, o Order) error {
		fmt.Println(o.ID, o.Total)
		return nil
	})
	runUntil(worker, recorder, 1)
	// Output: ORD-001 149.99
}

// The payment exists if and only if the message is processed.
func ExampleTx() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001", Total: 149.99})
	worker, recorder := newWorker(db)

	tide.Handle(worker, "order.created", func(ctx context.Context, _ *tide.Message, o Order) error {
		tx, err := tide.Tx(ctx)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into payments values ($1, $2)`, o.ID, o.Total)
		return err // the worker commits
	})
	runUntil(worker, recorder, 1)
	state(db)
	// Output: ORD-001 processed attempts 1
}

// The same with a transaction of database/sql, which the handler ends itself.
func ExampleComplete() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001", Total: 149.99})
	worker, recorder := newWorker(db)
	sqlDB := sqlOf(db)
	defer sqlDB.Close()

	tide.Handle(worker, "order.created", func(ctx context.Context, _ *tide.Message, o Order) error {
		tx, err := sqlDB.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, `insert into payments values ($1, $2)`, o.ID, o.Total); err != nil {
			return err
		}
		if err := tide.Complete(ctx, tide.SQL(tx)); err != nil {
			return err
		}
		return tx.Commit()
	})
	runUntil(worker, recorder, 1)
	state(db)
	// Output: ORD-001 processed attempts 1
}

func ExampleRetryIn() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001"})
	worker, recorder := newWorker(db)

	tide.Handle(worker, "order.created", func(_ context.Context, m *tide.Message, _ Order) error {
		return tide.RetryIn(time.Duration(m.Attempts)*time.Minute, errors.New("the card is locked"))
	})
	runUntil(worker, recorder, 1)
	state(db)
	// Output: ORD-001 waits attempts 1 the card is locked
}

// Nothing went wrong; it is only too early.
func ExampleSnooze() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001"})
	worker, recorder := newWorker(db)

	tide.Handle(worker, "order.created", func(context.Context, *tide.Message, Order) error {
		return tide.Snooze(time.Hour)
	})
	runUntil(worker, recorder, 1)
	state(db)
	// Output: ORD-001 waits attempts 0
}

// Trying again would not help: a person has to look.
func ExampleDiscard() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001", Total: -1})
	worker, recorder := newWorker(db)

	tide.Handle(worker, "order.created", func(_ context.Context, _ *tide.Message, o Order) error {
		return tide.Discard(fmt.Errorf("a total of %v", o.Total))
	})
	runUntil(worker, recorder, 1)
	state(db)
	// Output: ORD-001 dead attempts 1 a total of -1
}

func ExamplePayloadError() {
	db, done := setUp()
	defer done()
	db.Deliver("payment_triggers", tide.Event{Type: "order.created", Payload: "not an order"})
	worker, recorder := newWorker(db)

	worker.Use(func(next tide.Handler) tide.Handler {
		return func(ctx context.Context, m *tide.Message) error {
			err := next(ctx, m)
			if e := new(tide.PayloadError); errors.As(err, &e) {
				fmt.Println("the payload is", string(e.Message.Payload))
			}
			return err
		}
	})
	tide.Handle(worker, "order.created", func(context.Context, *tide.Message, Order) error { return nil })
	runUntil(worker, recorder, 1)
	// Output: the payload is "not an order"
}

// Middleware sees a panic of the handler as an error.
func ExamplePanicError() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001"})
	worker, recorder := newWorker(db)

	worker.Use(func(next tide.Handler) tide.Handler {
		return func(ctx context.Context, m *tide.Message) error {
			err := next(ctx, m)
			if e := new(tide.PanicError); errors.As(err, &e) {
				fmt.Println("panic:", e.Value, "with a stack:", len(e.Stack) > 0)
			}
			return err
		}
	})
	worker.HandleOthers(func(context.Context, *tide.Message) error { panic("no such card") })
	runUntil(worker, recorder, 1)
	// Output: panic: no such card with a stack: true
}

func ExampleOutcome() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001"})
	worker, recorder := newWorker(db)

	worker.HandleOthers(func(context.Context, *tide.Message) error { return nil })
	runUntil(worker, recorder, 1)
	var id string
	if err := db.Pool.QueryRow(context.Background(), `select event_id from tide.payment_triggers_inbox`).Scan(&id); err != nil {
		panic(err)
	}
	fmt.Println(recorder.Outcomes(id)[0] == tide.Processed)
	// Output: true
}

// counter counts what becomes of messages.
type counter map[tide.Outcome]int

func (c counter) Claimed(string, int)                                            {}
func (c counter) Handled(_ *tide.Message, outcome tide.Outcome, _ time.Duration) { c[outcome]++ }

// Counters of any library are behind an interface of two methods.
func ExampleMetrics() {
	c := counter{}
	var metrics tide.Metrics = c
	metrics.Handled(&tide.Message{}, tide.Processed, time.Millisecond)
	fmt.Println(c)
	// Output: map[processed:1]
}

func ExampleMessage() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001", Total: 149.99})

	m := db.WaitMessage("payment_triggers", func(*tide.Message) bool { return true })
	fmt.Println(m.Inbox, m.Type, m.Key, m.Op, string(m.Payload))
	// Output: payment_triggers order.created ORD-001 insert {"total": 149.99, "order_id": "ORD-001"}
}

func ExampleMessage_Header() {
	m := &tide.Message{Headers: []byte(`{"tenant": "acme"}`)}
	fmt.Printf("%q %q", m.Header("tenant"), m.Header("other"))
	// Output: "acme" ""
}

// A message is handed on to what speaks CloudEvents.
func ExampleMessage_CloudEvent() {
	m := &tide.Message{EventID: "0190a5c6-7d2e-7000-8000-000000000001", Source: "/d1/order_events", Stream: "order_events",
		Type: "order.created", Key: "ORD-001", Op: "insert", Payload: []byte(`{"total":149.99}`)}
	c, err := m.CloudEvent()
	fmt.Println(c.ID, c.Source, c.Subject, string(c.Data), err)
	// Output: 0190a5c6-7d2e-7000-8000-000000000001 /d1/order_events ORD-001 {"total":149.99} <nil>
}

// A handler that does not return is told, and abandoned in the end.
func Example_stopping() {
	db, done := setUp()
	defer done()
	arrive(db, Order{ID: "ORD-001"})
	worker, err := tide.NewWorker(db.Pool, tide.WorkerConfig{Inbox: "payment_triggers", StopTimeout: 500 * time.Millisecond, Logger: quiet()})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	returns := make(chan struct{})
	worker.HandleOthers(func(ctx context.Context, _ *tide.Message) error {
		stop()
		<-ctx.Done()
		fmt.Println("told by", context.Cause(ctx))
		<-returns
		return nil
	})
	err = worker.Run(ctx)
	fmt.Println(errors.Is(err, tide.ErrStopTimeout))
	close(returns)
	// Output:
	// told by the worker is stopping
	// true
}

func ExampleErrStopTimeout() {
	err := fmt.Errorf("the worker of inbox %q: %w", "payment_triggers", tide.ErrStopTimeout)
	if errors.Is(err, tide.ErrStopTimeout) {
		fmt.Println("some handlers were abandoned")
	}
	// Output: some handlers were abandoned
}

// What takes long looks at its context; the message is released when it returns.
func ExampleErrStopping() {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(tide.ErrStopping) // the worker does this
	fmt.Println(errors.Is(context.Cause(ctx), tide.ErrStopping))
	// Output: true
}

// Work outside the database need not go on for a message that is another's.
func ExampleErrLeaseLost() {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(tide.ErrLeaseLost) // the worker does this
	fmt.Println(errors.Is(context.Cause(ctx), tide.ErrLeaseLost))
	// Output: true
}
