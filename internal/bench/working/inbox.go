package working

import (
	"context"
	_ "embed" // the statements
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

var (
	//go:embed queries/pending.sql
	pendingSQL string
	//go:embed queries/mark.sql
	markSQL string
)

const (
	// pendingTimes and processedTimes are how many times the events of other
	// cases lie in the inbox.
	pendingTimes   = 5
	processedTimes = 50
	// atOnce is how many messages a worker takes, takes how often.
	atOnce = 10
	takes  = 200
	// promised is how long each statement may take, in milliseconds.
	promised = 2

	// The same while others work: crowd workers that claim crowdAtOnce
	// messages, keep them for as long as their work takes, and complete them.
	crowd         = 50
	crowdTakes    = 500
	crowdAtOnce   = 100
	crowdWorks    = 2 * time.Second
	crowdPromised = 5
)

// Options say how much there is to work.
type Options struct {
	// Events are those of a backlog, Size their payload in bytes.
	Events, Size int
	// Rounds is how often contenders take turns.
	Rounds int
}

// clock notes how long statements take, in milliseconds.
type clock map[string][]float64

func (c clock) timed(what string, do func() error) error {
	begun := time.Now()
	err := do()
	c[what] = append(c[what], float64(time.Since(begun).Microseconds())/1000)
	return err
}

// Inbox takes messages from a large inbox and marks them: by looking, by
// claiming, and by claiming while a crowd of others does.
func Inbox(ctx context.Context, w *world.World, o Options) ([]report.Result, error) {
	s, err := w.Service(ctx, "stock")
	if err != nil {
		return nil, err
	}
	if err := s.CreateInbox(ctx, "arrived"); err != nil {
		return nil, err
	}
	pending, processed := pendingTimes*o.Events, processedTimes*o.Events
	if err := s.FillInbox(ctx, "arrived", processed, o.Size, true); err != nil {
		return nil, err
	}
	if err := s.FillInbox(ctx, "arrived", pending, o.Size, false); err != nil {
		return nil, err
	}
	took := clock{}
	for n := range takes {
		w.Progress.Show(fmt.Sprintf("inbox: take %d of %d", n+1, takes))
		if err := takeByLooking(ctx, s.Conn, took); err != nil {
			return nil, err
		}
		if err := takeByClaim(ctx, s.Conn, took, atOnce, "inbox_claim", "inbox_complete"); err != nil {
			return nil, err
		}
	}
	of := fmt.Sprintf("%d pending, %d processed, %d at once", pending, processed, atOnce)
	var results []report.Result
	for _, name := range []string{"inbox_pending", "inbox_mark_processed", "inbox_claim", "inbox_complete"} {
		results = append(results, report.Result{Case: "inbox", Of: of, Unit: "ms", Less: true,
			Contenders: []report.Contender{{Name: name, Values: took[name], Limit: promised}}})
	}
	w.Progress.Show(fmt.Sprintf("inbox: %d workers", crowd))
	each := min(crowdAtOnce, max(1, pending/crowd/20)) // none is to go away with nothing
	values, err := besideACrowd(ctx, s, each)
	if err != nil {
		return nil, err
	}
	results = append(results, report.Result{Case: "inbox", Unit: "ms", Less: true,
		Of: fmt.Sprintf("%d pending, %d processed, claims of %d while %d workers work", pending, processed, each, crowd),
		Contenders: []report.Contender{
			{Name: "half", Values: []float64{report.Quantile(values, 0.5)}},
			{Name: "99 %", Values: []float64{report.Quantile(values, 0.99)}, Limit: crowdPromised}}})
	return results, w.Drop(ctx, s)
}

// takeByLooking works in one transaction, as a worker whose effects happen
// exactly once; what its commit takes is the disk's.
func takeByLooking(ctx context.Context, c *pgx.Conn, took clock) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		var ids []int64
		err := took.timed("inbox_pending", func() error {
			rows, err := tx.Query(ctx, pendingSQL, atOnce)
			if err != nil {
				return err
			}
			ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
		if err != nil {
			return fmt.Errorf("take messages: %w", err)
		}
		if len(ids) != atOnce {
			return fmt.Errorf("looking gave %d messages, want %d", len(ids), atOnce)
		}
		return took.timed("inbox_mark_processed", func() error {
			_, err := tx.Exec(ctx, markSQL, ids)
			return err
		})
	})
}

func takeByClaim(ctx context.Context, c *pgx.Conn, took clock, most int, claimed, completed string) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		var got batch
		err := took.timed(claimed, func() (err error) {
			got, err = claim(ctx, tx, most)
			return err
		})
		if err != nil {
			return err
		}
		return took.timed(completed, func() error { return got.complete(ctx, tx) })
	})
}

// besideACrowd times claims while a crowd of workers does its work, once all of
// it have claimed: what a new session parses and loads is not what is measured.
func besideACrowd(ctx context.Context, s *world.Service, each int) ([]float64, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var workers sync.WaitGroup
	failed := make(chan error, crowd)
	begun := make(chan struct{}, crowd)
	for n := range crowd {
		workers.Go(func() {
			// not all in step
			begin := time.NewTimer(time.Duration(n) * crowdWorks / crowd)
			defer begin.Stop()
			select {
			case <-begin.C:
			case <-ctx.Done():
				return
			}
			if err := workSlowly(ctx, s.DSN, each, begun); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	for range crowd {
		select {
		case <-begun:
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	took := clock{}
	tick := time.NewTicker(crowdWorks / crowd)
	defer tick.Stop()
	for range crowdTakes {
		if err := takeByClaim(ctx, s.Conn, took, each, "claim", "complete"); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	stop()
	workers.Wait()
	return took["claim"], nil
}

// workSlowly is one of the crowd, and says when it has claimed for the first time.
func workSlowly(ctx context.Context, dsn string, each int, begun chan<- struct{}) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // the database goes as well
	tick := time.NewTicker(crowdWorks)
	defer tick.Stop()
	for first := true; ; first = false {
		got, err := claim(ctx, c, each)
		if err != nil {
			return err
		}
		if first {
			begun <- struct{}{} // has room for all
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := got.complete(ctx, c); err != nil {
			return err
		}
	}
}
