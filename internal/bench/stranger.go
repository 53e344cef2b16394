package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

// strangerPromised is the rate behind a stranger's open transaction, to that
// without it.
const strangerPromised = 0.80

// measureStranger moves a backlog that was published behind transactions that
// stay open, beside one that was not.
func measureStranger(ctx context.Context, b *run) ([]report.Result, error) {
	size := b.options.Sizes[0]
	alone, err := b.Service(ctx, "alone")
	if err != nil {
		return nil, err
	}
	behind, err := b.Service(ctx, "behind")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(alone.CreateOutbox(ctx, "orders"), behind.CreateOutbox(ctx, "orders")); err != nil {
		return nil, err
	}
	// One has an event of its own that is never committed, one has nothing to
	// do with events at all, and one is of another database.
	for _, stranger := range []struct{ dsn, sql string }{
		{behind.DSN, `select tide.outbox_publish('orders', '{}'::jsonb)`},
		{behind.DSN, `create temporary table stranger ()`},
		{alone.DSN, `create temporary table stranger ()`},
	} {
		end, err := world.HoldOpen(ctx, stranger.dsn, stranger.sql)
		if err != nil {
			return nil, err
		}
		defer end()
	}
	of := fmt.Sprintf("%d events of %d B", b.options.Events, size)
	way := func(s *world.Service) func(ctx context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) { return b.forwardByRelay(ctx, s, b.options.Events) }
	}
	for _, s := range []*world.Service{alone, behind} {
		if err := s.Fill(ctx, "orders", b.options.Events, size); err != nil {
			return nil, err
		}
		if err := s.StartRelay(ctx); err != nil {
			return nil, err
		}
	}
	c, err := b.alternate(ctx, "stranger, "+of, runner{Name: "alone", Run: way(alone)}, runner{Name: "behind open transactions", Run: way(behind)})
	if err != nil {
		return nil, err
	}
	result := report.Compare("stranger", of, "events/s", c[1], c[0].Beside(strangerPromised))
	if err := b.removeEvents(ctx); err != nil {
		return nil, err
	}
	return []report.Result{result}, b.DropAll(ctx)
}
