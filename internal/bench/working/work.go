package working

import (
	"context"
	_ "embed" // the statements
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

var (
	//go:embed queries/queue.sql
	queueSQL string
	//go:embed queries/queue_fill.sql
	queueFillSQL string
	//go:embed queries/queue_take.sql
	queueTakeSQL string
	//go:embed queries/queue_done.sql
	queueDoneSQL string
)

const (
	// workers take workAtOnce messages each until none is left.
	workers    = 4
	workAtOnce = 500
	// workPromised is messages a second that are claimed and completed, on two cores.
	workPromised = 20_000
)

// Work has a few workers claim and complete everything in an inbox, and do the
// same with a queue as people write it by hand, which keeps no order and gives
// nothing to another worker when one dies.
func Work(ctx context.Context, w *world.World, o Options) ([]report.Result, error) {
	s, err := w.Service(ctx, "stock")
	if err != nil {
		return nil, err
	}
	for _, statement := range strings.Split(queueSQL, "\n\n") {
		if err := s.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	of := fmt.Sprintf("%d messages of %d B, %d workers, %d at once", o.Events, o.Size, workers, workAtOnce)
	contenders := []report.Contender{{Name: "queue by hand"}, {Name: "pg_tide", Limit: workPromised}}
	for round := range o.Rounds + 1 {
		for i, run := range []func(context.Context, *world.Service, Options) (float64, error){queueByHand, inboxWorked} {
			w.Progress.Show(fmt.Sprintf("work, %s: %s, round %d of %d", of, contenders[i].Name, round, o.Rounds))
			value, err := run(ctx, s, o)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", contenders[i].Name, err)
			}
			if round > 0 {
				contenders[i].Values = append(contenders[i].Values, value)
			}
		}
	}
	return []report.Result{report.Compare("work", of, "messages/s", contenders[1], contenders[0].Beside(0))}, w.Drop(ctx, s)
}

func queueByHand(ctx context.Context, s *world.Service, o Options) (float64, error) {
	for _, statement := range []string{"truncate job", "vacuum (analyze) job"} {
		if err := s.Exec(ctx, statement); err != nil {
			return 0, err
		}
	}
	if err := s.Exec(ctx, queueFillSQL, o.Events, o.Size); err != nil {
		return 0, err
	}
	return worked(ctx, s.DSN, o.Events, func(ctx context.Context, c *pgx.Conn) (int, error) {
		var (
			ids     []int64
			id      int64
			payload []byte
		)
		rows, err := c.Query(ctx, queueTakeSQL, workAtOnce)
		if err != nil {
			return 0, err
		}
		if _, err := pgx.ForEachRow(rows, []any{&id, &payload}, func() error { ids = append(ids, id); return nil }); err != nil {
			return 0, err
		}
		_, err = c.Exec(ctx, queueDoneSQL, ids)
		return len(ids), err
	})
}

func inboxWorked(ctx context.Context, s *world.Service, o Options) (float64, error) {
	if err := s.Exec(ctx, "select tide.inbox_drop('arrived', if_exists => true)"); err != nil {
		return 0, err
	}
	if err := s.CreateInbox(ctx, "arrived"); err != nil {
		return 0, err
	}
	if err := s.FillInbox(ctx, "arrived", o.Events, o.Size, false); err != nil {
		return 0, err
	}
	return worked(ctx, s.DSN, o.Events, func(ctx context.Context, c *pgx.Conn) (int, error) {
		got, err := claim(ctx, c, workAtOnce)
		if err != nil {
			return 0, err
		}
		return len(got.ids), got.complete(ctx, c)
	})
}

// worked has the workers take turns until all is done and says how many a
// second that were.
func worked(ctx context.Context, dsn string, messages int, turn func(context.Context, *pgx.Conn) (int, error)) (float64, error) {
	connections := make([]*pgx.Conn, workers)
	for i := range connections {
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return 0, err
		}
		defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // what it did is committed
		connections[i] = c
	}
	begun := time.Now()
	done := make(chan int, workers)
	all, ctx := errgroup.WithContext(ctx)
	for _, c := range connections {
		all.Go(func() error {
			sum := 0
			for {
				n, err := turn(ctx, c)
				if err != nil {
					return err
				}
				if sum += n; n == 0 {
					done <- sum
					return nil
				}
			}
		})
	}
	if err := all.Wait(); err != nil {
		return 0, err
	}
	took := time.Since(begun).Seconds()
	sum := 0
	for range workers {
		sum += <-done
	}
	if sum != messages {
		return 0, fmt.Errorf("%d messages were worked, want %d", sum, messages)
	}
	return float64(messages) / took, nil
}
