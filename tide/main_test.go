package tide_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDSN) != "" {
		os.Exit(child())
	}
	pgtest.Main(m)
}

var both = []int{pgtest.Oldest, pgtest.Newest}

// database has the schema, the inbox "i" and the outbox "o".
func database(t testing.TB, major int) *tidetest.DB {
	t.Helper()
	return tidetest.Use(t, pgtest.Pool(t, databaseDSN(t, major)))
}

func databaseDSN(t testing.TB, major int) string {
	t.Helper()
	return pgtest.DatabaseFrom(t, major, "tide", func(dsn string) error {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if err := schema.Install(ctx, conn); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `select tide.inbox_create('i', max_attempts => 3), tide.outbox_create('o');
			create table effect (at bigserial, event_id text, key text)`)
		return err
	})
}

func value[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// running is a worker at work.
type running struct {
	*tidetest.Recorder
	t     testing.TB
	stop  context.CancelFunc
	ended chan error
}

// start runs a worker of inbox "i" until the test ends or stopped is called.
func start(t testing.TB, db *tidetest.DB, config tide.WorkerConfig, set func(w *tide.Worker)) *running {
	t.Helper()
	r := &running{Recorder: tidetest.NewRecorder(), t: t, ended: make(chan error, 1)}
	config.Inbox = "i"
	if config.Metrics == nil {
		config.Metrics = r.Recorder
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	w, err := tide.NewWorker(db.Pool, config)
	if err != nil {
		t.Fatal(err)
	}
	set(w)
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.ended <- w.Run(ctx) }()
	t.Cleanup(func() { r.stopped() })
	return r
}

// stopped stops the worker, and returns what Run did.
func (r *running) stopped() error {
	r.stop()
	err := <-r.ended
	r.ended <- err
	return err
}
