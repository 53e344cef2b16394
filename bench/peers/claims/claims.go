// Package claims is pg_tide's own worker with nothing to do for a message: by
// SQL, as docs/inbox.md tells, and by the Go library. Neither has a setting
// changed but the number that a claim by SQL takes.
package claims

import (
	"context"
	_ "embed" // the statements
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/schema"
	"github.com/pg-tide/pg-tide/tide"
)

var (
	//go:embed fill.sql
	fillSQL string
	//go:embed claim.sql
	claimSQL string
	//go:embed complete.sql
	completeSQL string
	// LeftSQL is how many messages are not done with.
	//go:embed left.sql
	LeftSQL string
)

// atOnce is how many messages a session claims. There is one session for each
// processor: where nothing is done for a message, more of them mostly find that
// others took what they saw.
const atOnce = 500

// SetUp makes the inbox, ordered as it is by default, and fills it.
func SetUp(ctx context.Context, conn *pgx.Conn, messages, size int) error {
	if err := schema.Install(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "select tide.inbox_create('orders')"); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, fillSQL, messages, size)
	return err
}

// SQL claims and completes.
func SQL(ctx context.Context, dsn string, messages int, out io.Writer) error {
	count := target.NewCount(messages)
	return count.Await(ctx, out, func(ctx context.Context) error {
		all, ctx := errgroup.WithContext(ctx)
		for range runtime.NumCPU() {
			all.Go(func() error { return session(ctx, dsn, count) })
		}
		return all.Wait()
	})
}

// session works until nothing is left, as another may still have the last.
func session(ctx context.Context, dsn string, count *target.Count) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // what it did is committed
	for {
		var (
			ids     []int64
			id      int64
			payload []byte
			token   string
		)
		rows, err := conn.Query(ctx, claimSQL, atOnce)
		if err != nil {
			return err
		}
		if _, err := pgx.ForEachRow(rows, []any{&id, &payload, &token}, func() error { ids = append(ids, id); return nil }); err != nil {
			return err
		}
		if len(ids) == 0 {
			select {
			case <-count.All():
			case <-ctx.Done():
			}
			return nil
		}
		if _, err := conn.Exec(ctx, completeSQL, token, ids); err != nil {
			return err
		}
		count.Settled(len(ids))
	}
}

// counted tells a Count what a worker settles.
type counted struct{ *target.Count }

// Claimed is of no interest.
func (counted) Claimed(string, int) {}

// Handled counts what was processed.
func (c counted) Handled(_ *tide.Message, outcome tide.Outcome, _ time.Duration) {
	if outcome == tide.Processed {
		c.Settled(1)
	}
}

// Library has a tide.Worker with a handler that does nothing.
func Library(ctx context.Context, dsn string, messages int, out io.Writer) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	count := target.NewCount(messages)
	w, err := tide.NewWorker(pool, tide.WorkerConfig{Inbox: "orders", Metrics: counted{count},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	w.HandleOthers(func(context.Context, *tide.Message) error { return nil })
	return count.Await(ctx, out, w.Run)
}
