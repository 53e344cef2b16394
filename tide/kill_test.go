package tide_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/tide"
)

// childDSN has this test binary be a worker, and says of which database.
const childDSN = "TIDE_TEST_CHILD_DSN"

// effect is the business write of a message, by the transaction of its worker.
func effect(ctx context.Context, m *tide.Message) error {
	tx, err := tide.Tx(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `insert into effect (event_id, key) values ($1, $2)`, m.EventID, m.Key)
	return err
}

// child works until it is killed, and prints a line whenever it has written
// something that is not committed.
func child() int {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(childDSN))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer pool.Close()
	w, err := tide.NewWorker(pool, tide.WorkerConfig{Inbox: "i", Concurrency: 4, Lease: 300 * time.Millisecond, PollInterval: 50 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w.HandleOthers(func(ctx context.Context, m *tide.Message) error {
		err := effect(ctx, m)
		fmt.Println(m.ID)
		return err
	})
	if err := w.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// doomed runs a worker process and kills it after so many of its writes.
func doomed(t *testing.T, dsn string, writes int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(self)
	command.Env = append(os.Environ(), childDSN+"="+dsn)
	command.Stderr = t.Output()
	lines, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	scan := bufio.NewScanner(lines)
	for range writes {
		if !scan.Scan() {
			return fmt.Errorf("the worker ended by itself: %w", command.Wait())
		}
	}
	if err := command.Process.Kill(); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, lines) // what it said while it was being killed
	_ = command.Wait()                // it was killed
	return nil
}

// Worker processes are killed while they write, time and again; in the end each
// message had its effect once, and those of a key in the order of arrival.
func TestAnEffectByTxHappensExactlyOnceWhoeverIsKilled(t *testing.T) {
	pgtest.Each(t, both, func(t *testing.T, major int) {
		db := database(t, major)
		const messages = 400
		db.Exec(`update tide.inbox set max_attempts = 1000`)
		db.Exec(fill, messages, true, "e")
		db.Exec(`update tide.i_inbox set key = 'k' || id % 40`)
		dsn := db.Pool.Config().ConnString()
		killed := make(chan error)
		for i := range 2 {
			go func() {
				for round := range 4 {
					if err := doomed(t, dsn, 9+7*i+round); err != nil {
						killed <- err
						return
					}
				}
				killed <- nil
			}()
		}
		for range 2 {
			if err := <-killed; err != nil {
				t.Fatal(err)
			}
		}
		if n := value[int](t, db.Pool, `select count(*) from tide.i_inbox where processed_at is null`); n == 0 {
			t.Fatal("nothing was left when the last worker was killed: the test shows nothing")
		}
		w := start(t, db, tide.WorkerConfig{PollInterval: 50 * time.Millisecond}, func(w *tide.Worker) { w.HandleOthers(effect) })
		until(t, func() bool {
			return value[int](t, db.Pool, `select count(*) from tide.i_inbox where processed_at is null`) == 0
		})
		if err := w.stopped(); err != nil {
			t.Error(err)
		}
		wantEffects(t, db, messages)
	})
}
