package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/bench/report"
)

const (
	// pendingTimes and processedTimes are how many times the events of other
	// cases lie in the inbox.
	pendingTimes   = 5
	processedTimes = 50
	// workAtOnce is how many messages a worker takes, workTakes how often.
	workAtOnce = 10
	workTakes  = 200
	// workPromised is how long each statement may take, in milliseconds.
	workPromised = 2
)

// measureInbox takes messages from a large inbox and marks them.
func measureInbox(ctx context.Context, b *run) ([]report.Result, error) {
	s, err := b.Service(ctx, "stock")
	if err != nil {
		return nil, err
	}
	if err := s.CreateInbox(ctx, "arrived"); err != nil {
		return nil, err
	}
	size, pending, processed := b.options.Sizes[0], pendingTimes*b.options.Events, processedTimes*b.options.Events
	if err := s.FillInbox(ctx, "arrived", processed, size, true); err != nil {
		return nil, err
	}
	if err := s.FillInbox(ctx, "arrived", pending, size, false); err != nil {
		return nil, err
	}
	took := map[string][]float64{}
	timed := func(what string, do func() error) error {
		begun := time.Now()
		err := do()
		took[what] = append(took[what], float64(time.Since(begun).Microseconds())/1000)
		return err
	}
	for n := range workTakes {
		b.Progress.Show(fmt.Sprintf("inbox: take %d of %d", n+1, workTakes))
		var ids []int64
		// one transaction, as a worker's whose effects happen exactly once; what its commit takes is the disk's
		if err := s.Exec(ctx, "begin"); err != nil {
			return nil, err
		}
		err := timed("inbox_pending", func() error {
			rows, err := s.Conn.Query(ctx, pendingSQL, workAtOnce)
			if err != nil {
				return err
			}
			ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
		if err == nil && len(ids) != workAtOnce {
			err = fmt.Errorf("got %d messages", len(ids))
		}
		if err != nil {
			return nil, fmt.Errorf("take messages: %w", err)
		}
		if err := timed("inbox_mark_processed", func() error { return s.Exec(ctx, markSQL, ids) }); err != nil {
			return nil, err
		}
		if err := s.Exec(ctx, "commit"); err != nil {
			return nil, err
		}
	}
	of := fmt.Sprintf("%d pending, %d processed, %d at once", pending, processed, workAtOnce)
	var results []report.Result
	for _, name := range []string{"inbox_pending", "inbox_mark_processed"} {
		results = append(results, report.Result{Case: "inbox", Of: of, Unit: "ms", Less: true,
			Contenders: []report.Contender{{Name: name, Values: took[name], Limit: workPromised}}})
	}
	return results, b.Drop(ctx, s)
}
