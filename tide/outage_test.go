package tide_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

// The database is killed under a worker, again and again; nothing is lost and
// nothing happens twice.
func TestAWorkerOutlivesCrashesOfItsDatabase(t *testing.T) {
	server := pgtest.Own(t, throwaway.Options{})
	conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	const messages = 300
	for _, statement := range []string{
		`select tide.inbox_create('i', max_attempts => 1000)`,
		`create table effect (at bigserial, event_id text, key text)`,
		`insert into tide.i_inbox (inbox_id, event_id, source, stream, key, op, event_type, payload)
			select (select id from tide.inbox), 'e' || n, '/b/orders', 'orders', 'k' || n % 40, 'insert', 'x', to_jsonb(n) from generate_series(1, 300) n`,
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.Close(t.Context()) // it is killed with the server anyway
	db := tidetest.Use(t, pgtest.Pool(t, server.DSN("postgres")))
	crash := make(chan struct{}, 1)
	begun := 0
	w := start(t, db, tide.WorkerConfig{Concurrency: 1, Lease: time.Second, PollInterval: 50 * time.Millisecond}, func(w *tide.Worker) {
		w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
			if begun++; begun%60 == 0 {
				select {
				case crash <- struct{}{}:
				default:
				}
			}
			if err := effect(ctx, m); err != nil {
				return tide.RetryIn(0, err)
			}
			return nil
		})
	})
	for range 3 {
		<-crash
		if err := server.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool {
		var left int
		err := db.Pool.QueryRow(t.Context(), `select count(*) from tide.i_inbox where processed_at is null`).Scan(&left)
		return err == nil && left == 0
	})
	if err := w.stopped(); err != nil {
		t.Error(err)
	}
	wantEffects(t, db, messages)
}

// As FailNow of a test does, which a handler under test may call.
func TestAHandlerThatEndsItsGoroutineFailsItsMessageAlone(t *testing.T) {
	db := database(t, 0)
	w := start(t, db, tide.WorkerConfig{Concurrency: 1}, func(w *tide.Worker) {
		tide.Handle(w, "ends", func(context.Context, *tide.Message, int) error {
			runtime.Goexit()
			return nil
		})
		w.HandleOthers(func(context.Context, *tide.Message) error { return nil })
	})
	ends := db.Deliver("i", tide.Event{Type: "ends", Payload: 1})
	w.WaitFor(t, ends, tide.Failed)
	wantRow(t, db, ends, "waits 1 the handler ended its goroutine")
	w.WaitFor(t, deliver(db, ""), tide.Processed)
}

func TestAMessageWithoutAHandlerOrOfAnotherShapeIsTriedAgain(t *testing.T) {
	db := database(t, 0)
	w := start(t, db, tide.WorkerConfig{Name: "w1"}, func(w *tide.Worker) {
		tide.Handle(w, "known", func(context.Context, *tide.Message, order) error { return nil })
	})
	unknown := db.Deliver("i", tide.Event{Type: "unknown", Payload: 1})
	w.WaitFor(t, unknown, tide.Failed)
	wantRow(t, db, unknown, `waits 1 worker "w1" has no handler for event type "unknown"`)
	shape := db.Deliver("i", tide.Event{Type: "known", Payload: "text"})
	w.WaitFor(t, shape, tide.Failed)
	if got := row(t, db, shape); !strings.HasPrefix(got, "waits 1 the payload of event "+shape) {
		t.Errorf("the message %s", got)
	}
}

// What a message's transaction may be used for ends with its handler.
func TestTheTransactionOfAMessageIsTheWorkers(t *testing.T) {
	db := database(t, 0)
	if _, err := tide.Tx(t.Context()); err == nil {
		t.Error("a transaction was begun outside of a handler")
	}
	if err := tide.Complete(t.Context(), db.Pool); err == nil {
		t.Error("a message was completed outside of a handler")
	}
	kept := make(chan context.Context, 1)
	w := start(t, db, tide.WorkerConfig{}, func(w *tide.Worker) {
		w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
			kept <- ctx
			if err := effect(ctx, m); err != nil {
				return err
			}
			tx, err := tide.Tx(ctx)
			if err != nil {
				return err
			}
			if err := tx.Commit(ctx); err == nil {
				t.Error("the handler committed")
			}
			if err := tx.Rollback(ctx); err == nil {
				t.Error("the handler rolled back")
			}
			if err := tide.Complete(ctx, tx); err == nil {
				t.Error("the handler completed what the worker completes")
			}
			return nil
		})
	})
	id := deliver(db, "")
	w.WaitFor(t, id, tide.Processed)
	wantEffects(t, db, 1)
	if _, err := tide.Tx(context.WithoutCancel(<-kept)); err == nil {
		t.Error("a transaction was begun after the handler had returned")
	}
}

// An error that the handler made nothing of has aborted its transaction.
func TestAnAbortedTransactionFailsItsMessage(t *testing.T) {
	db := database(t, 0)
	id := deliver(db, "")
	w := start(t, db, tide.WorkerConfig{}, func(w *tide.Worker) {
		w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
			tx, err := tide.Tx(ctx)
			if err != nil {
				return err
			}
			_, _ = tx.Exec(ctx, `select 1/0`)
			return nil
		})
	})
	w.WaitFor(t, id, tide.Failed)
}

// Handlers that wait for the one connection of the pool keep their leases.
func TestAPoolThatIsTooSmallCostsNoLease(t *testing.T) {
	db := database(t, 0)
	const messages = 20
	db.Exec(fill, messages, false, "e")
	narrow := tidetest.Use(t, pgtest.Pool(t, db.Pool.Config().ConnString()+"&pool_max_conns=1"))
	w := start(t, narrow, tide.WorkerConfig{Lease: time.Second}, func(w *tide.Worker) {
		w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
			tx, err := tide.Tx(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `select pg_sleep(0.1)`); err != nil {
				return err
			}
			return effect(ctx, m)
		})
	})
	w.Wait(t, messages)
	wantEffects(t, db, messages)
	if n := value[int](t, db.Pool, `select max(attempts) from tide.i_inbox`); n != 1 {
		t.Errorf("a message took %d attempts", n)
	}
}
