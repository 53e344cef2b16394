package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
	"github.com/pg-tide/pg-tide/internal/retry"
)

const (
	idlePipelines = 20
	// idleFor is how long nothing is done, after idleSettle: sessions tell the
	// server ten seconds later only how many transactions they had.
	idleFor    = 60 * time.Second
	idleSettle = 25 * time.Second
)

// measureIdle lets a relay of twenty pipelines do nothing.
func measureIdle(ctx context.Context, b *run) ([]report.Result, error) {
	s, err := b.Service(ctx, "orders")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.CreateOutbox(ctx, "orders"), s.CreateInbox(ctx, "arrived")); err != nil {
		return nil, err
	}
	if _, err := b.newStream(ctx); err != nil {
		return nil, err
	}
	for i := range idlePipelines / 2 {
		if err := s.Forward(ctx, fmt.Sprintf("out%d", i), "orders", b.Durable("events"), b.Subject("events"), b.shape()); err != nil {
			return nil, err
		}
		if err := s.Reverse(ctx, fmt.Sprintf("in%d", i), "arrived", b.Durable("events"), b.Subject("events"), b.shape()); err != nil {
			return nil, err
		}
	}
	if err := s.StartRelay(ctx); err != nil {
		return nil, err
	}
	b.Progress.Show(fmt.Sprintf("idle: settling for %s, then nothing for %s", idleSettle, idleFor))
	if err := retry.Sleep(ctx, retry.System{}, idleSettle); err != nil {
		return nil, err
	}
	before, err := b.idleSample(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := retry.Sleep(ctx, retry.System{}, idleFor); err != nil {
		return nil, err
	}
	after, err := b.idleSample(ctx, s)
	if err != nil {
		return nil, err
	}
	seconds := after.at.Sub(before.at).Seconds()
	of := fmt.Sprintf("%d pipelines, no events", idlePipelines)
	one := func(unit, name string, value, limit float64) report.Result {
		return report.Result{Case: "idle", Of: of, Unit: unit, Less: true, Contenders: []report.Contender{{Name: name, Values: []float64{value}, Limit: limit}}}
	}
	results := []report.Result{one("transactions/s", "of all on PostgreSQL", float64(after.transactions-before.transactions-1)/seconds, 3)}
	if after.memory > 0 {
		results = append(results,
			one("% of a core", "the relay", 100*(after.processor-before.processor).Seconds()/seconds, 1),
			one("MiB", "resident", float64(after.memory)/(1<<20), 60))
	}
	return results, errors.Join(b.Drop(ctx, s), b.removeEvents(ctx))
}

// idleState is what a relay has used until now.
type idleState struct {
	at           time.Time
	transactions int64
	processor    time.Duration
	memory       int64 // resident bytes; 0 where the system does not tell
}

func (b *run) idleSample(ctx context.Context, s *world.Service) (state idleState, err error) {
	if err := s.Alive(); err != nil {
		return state, err
	}
	state.at = time.Now()
	if err := b.Admin(ctx, transactionsSQL, s.Database).Scan(&state.transactions); err != nil {
		return state, fmt.Errorf("count transactions: %w", err)
	}
	state.processor, state.memory = world.Used(s.PID())
	return state, nil
}
