package river

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/pg-tide/pg-tide/bench/peers/target"
)

// The settings of River's own benchmark, `river bench`, of which it says that
// they do much better than the defaults.
const (
	fetchCooldown = 2 * time.Millisecond
	fetchPoll     = 20 * time.Millisecond
	maxWorkers    = 2000
)

// LeftSQL is how many jobs are not done.
const LeftSQL = "select count(*) from river_job where state <> 'completed'"

// Fill makes jobs.
func Fill(ctx context.Context, dsn string, jobs, size int) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{}) // it inserts only
	if err != nil {
		return err
	}
	text := strings.Repeat("x", max(0, size-30))
	for from := 0; from < jobs; from += batch {
		var many []river.InsertManyParams
		for n := from; n < min(from+batch, jobs); n++ {
			payload, _ := json.Marshal(map[string]any{"n": n, "text": text}) // it cannot fail
			many = append(many, river.InsertManyParams{Args: args{EventID: uuid.NewString(), Key: fmt.Sprint(n), Type: "orders.insert", Payload: payload}})
		}
		if _, err := client.InsertManyFast(ctx, many); err != nil {
			return err
		}
	}
	return nil
}

// noop is a worker that has nothing to do.
type noop struct{ river.WorkerDefaults[args] }

// Work does nothing.
func (noop) Work(context.Context, *river.Job[args]) error { return nil }

// Work works all jobs and reports how fast they were completed.
func Work(ctx context.Context, dsn string, jobs int, out io.Writer) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, noop{})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown: fetchCooldown, FetchPollInterval: fetchPoll, Workers: workers,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxWorkers}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	// It tells of a job when its completion is committed; the room is for all,
	// since what does not fit is dropped.
	completed, cancel := client.SubscribeConfig(&river.SubscribeConfig{ChanSize: jobs, Kinds: []river.EventKind{river.EventKindJobCompleted}})
	defer cancel()
	count := target.NewCount(jobs)
	return count.Await(ctx, out, func(ctx context.Context) error { return work(ctx, client, completed, count) })
}

func work(ctx context.Context, client *river.Client[pgx.Tx], completed <-chan *river.Event, count *target.Count) error {
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	for {
		select {
		case <-completed:
			count.Settled(1)
		case <-ctx.Done():
			return client.Stop(context.WithoutCancel(ctx))
		}
	}
}
