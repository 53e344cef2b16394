package working

import (
	"context"
	_ "embed" // the statements
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

var (
	//go:embed queries/churn_insert.sql
	churnInsertSQL string
	//go:embed queries/churn_age.sql
	churnAgeSQL string
	//go:embed queries/churn_clean.sql
	churnCleanSQL string
	//go:embed queries/churn_size.sql
	churnSizeSQL string
)

const (
	// churnTimes is how many times the events of other cases go through the inbox.
	churnTimes = 50
	// churnSteps is how often is looked. churnAges is how often half of the
	// retention passes; a message is cleaned after three halves at most, and its
	// event id after as many again.
	churnSteps = 10
	churnAges  = 20
	// churnPending is how many always wait, churnAtOnce how many a claim takes.
	churnPending = 20_000
	churnAtOnce  = 100
	// churnFill is how many arrive at once.
	churnFill = 1000
)

// churned is what is seen at a step.
type churned struct {
	messages               int
	table, indexes, memory float64 // in MB
	deadRows, half, most   float64
}

// Churn has a great number of messages go through an inbox in which always as
// many wait: inserted, claimed, completed, cleaned. What nothing of grows with
// is how many there have been.
func Churn(ctx context.Context, w *world.World, o Options) ([]report.Result, error) {
	s, err := w.Service(ctx, "stock")
	if err != nil {
		return nil, err
	}
	if err := s.CreateInbox(ctx, "arrived"); err != nil {
		return nil, err
	}
	total := churnTimes * o.Events
	c := &churn{service: s, size: o.Size, total: total, pending: min(churnPending, total/churnSteps/5)}
	var steps []churned
	if err := c.insert(ctx, c.pending); err != nil {
		return nil, err
	}
	for n := range churnSteps {
		w.Progress.Show(fmt.Sprintf("churn: %d of %d messages", n*total/churnSteps, total))
		step, err := c.step(ctx)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
		w.Progress.Say(fmt.Sprintf("churn: %d messages; table %.0f MB, indexes %.0f MB, memory %.0f MB, %.0f dead rows; claim %.2f ms, 99 %% %.2f ms",
			step.messages, step.table, step.indexes, step.memory, step.deadRows, step.half, step.most))
	}
	return churnResults(steps, c.pending), w.Drop(ctx, s)
}

// churnResults have a contender for each step, so that what grows is seen.
func churnResults(steps []churned, pending int) []report.Result {
	var results []report.Result
	for _, r := range []struct {
		what, unit string
		of         func(s churned) float64
	}{
		{"table", "MB", func(s churned) float64 { return s.table }},
		{"indexes", "MB", func(s churned) float64 { return s.indexes }},
		{"remembered event ids", "MB", func(s churned) float64 { return s.memory }},
		{"dead rows", "rows", func(s churned) float64 { return s.deadRows }},
		{"half of the claims", "ms", func(s churned) float64 { return s.half }},
		{"99 % of the claims", "ms", func(s churned) float64 { return s.most }},
	} {
		result := report.Result{Case: "churn", Of: fmt.Sprintf("%s after so many messages, %d pending, claims of %d", r.what, pending, churnAtOnce), Unit: r.unit, Less: true}
		for _, s := range steps {
			result.Contenders = append(result.Contenders, report.Contender{Name: fmt.Sprint(s.messages), Values: []float64{r.of(s)}})
		}
		results = append(results, result)
	}
	return results
}

// churn is an inbox through which messages go.
type churn struct {
	service              *world.Service
	size, total, pending int
	// inserted and done are how many were; so many times was there a pause.
	inserted, done, ages int
}

func (c *churn) insert(ctx context.Context, messages int) error {
	c.inserted += messages
	return c.service.Exec(ctx, churnInsertSQL, c.inserted-messages+1, c.inserted, c.size)
}

// step works its share of all messages, in turns with what cleans.
func (c *churn) step(ctx context.Context) (churned, error) {
	took := clock{}
	end := c.done + c.total/churnSteps
	for c.done < end {
		until := min(end, (c.ages+1)*c.total/churnAges)
		if err := c.work(ctx, until-c.done, took); err != nil {
			return churned{}, err
		}
		c.done = until
		if c.done < (c.ages+1)*c.total/churnAges {
			continue
		}
		c.ages++
		if err := c.service.Exec(ctx, churnAgeSQL); err != nil {
			return churned{}, err
		}
		for more := true; more; {
			if err := c.service.Conn.QueryRow(ctx, churnCleanSQL).Scan(&more); err != nil {
				return churned{}, fmt.Errorf("clean the inbox: %w", err)
			}
		}
	}
	s := churned{messages: c.done, half: report.Quantile(took["claim"], 0.5), most: report.Quantile(took["claim"], 0.99)}
	err := c.service.Conn.QueryRow(ctx, churnSizeSQL).Scan(&s.table, &s.indexes, &s.memory, &s.deadRows)
	return s, err
}

// work has the workers settle so many messages, while as many arrive.
func (c *churn) work(ctx context.Context, messages int, took clock) error {
	all, ctx := errgroup.WithContext(ctx)
	var left, running atomic.Int64
	left.Store(int64(messages))
	running.Store(workers)
	settled := make(chan int, workers)
	clocks := make([]clock, workers)
	for i := range workers {
		clocks[i] = clock{}
		all.Go(func() error {
			defer func() {
				if running.Add(-1) == 0 {
					close(settled) // nobody is left who sends
				}
			}()
			return churnWorker(ctx, c.service.DSN, &left, settled, clocks[i])
		})
	}
	all.Go(func() error {
		room := 0
		for n := range settled {
			if room += n; room < churnFill {
				continue
			}
			if err := c.insert(ctx, room); err != nil {
				return err
			}
			room = 0
		}
		if room == 0 {
			return nil
		}
		return c.insert(ctx, room)
	})
	if err := all.Wait(); err != nil {
		return err
	}
	for _, one := range clocks {
		took["claim"] = append(took["claim"], one["claim"]...)
	}
	return nil
}

// churnWorker claims and completes until no more are wanted.
func churnWorker(ctx context.Context, dsn string, left *atomic.Int64, settled chan<- int, took clock) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // what it did is committed
	for {
		wanted := min(churnAtOnce, churnAtOnce+left.Add(-churnAtOnce))
		if wanted <= 0 {
			return nil
		}
		for wanted > 0 {
			var got batch
			if err := took.timed("claim", func() (err error) { got, err = claim(ctx, conn, int(wanted)); return err }); err != nil {
				return err
			}
			if len(got.ids) == 0 {
				return errors.New("a claim gave nothing although messages wait")
			}
			if err := got.complete(ctx, conn); err != nil {
				return err
			}
			wanted -= int64(len(got.ids))
			select {
			case settled <- len(got.ids):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
