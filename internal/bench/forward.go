package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/turns"
	"github.com/pg-tide/pg-tide/internal/bench/world"
	"github.com/pg-tide/pg-tide/internal/bench/yardstick"
)

const (
	lookEvery = 2 * time.Millisecond

	// What the project promises of the way out, beside the two loops.
	forwardSameHeaders = 0.90
	forwardIDAlone     = 0.75
)

// measureForward moves a backlog from an outbox to a stream.
func measureForward(ctx context.Context, b *run) ([]report.Result, error) {
	var results []report.Result
	for _, size := range b.options.Sizes {
		result, err := b.forwardOf(ctx, size)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func (b *run) forwardOf(ctx context.Context, size int) (r report.Result, err error) {
	s, err := b.Service(ctx, "orders")
	if err != nil {
		return r, err
	}
	if err := b.filled(ctx, s, b.options.Events, size); err != nil {
		return r, err
	}
	if err := yardstick.PrepareForward(ctx, s.Conn); err != nil {
		return r, err
	}
	if err := s.StartRelay(ctx); err != nil {
		return r, err
	}
	of := fmt.Sprintf("%d events of %d B", b.options.Events, size)
	loop := func(headers yardstick.Headers) func(ctx context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) { return b.forwardByHand(ctx, s, headers) }
	}
	c, err := b.alternate(ctx, "forward, "+of,
		runner{Name: "loop with the id alone", Run: loop(yardstick.IDAlone)},
		runner{Name: "loop with the same headers", Run: loop(yardstick.CloudEvents)},
		runner{Name: "pg_tide", Run: func(ctx context.Context) (float64, error) { return b.forwardByRelay(ctx, s, b.options.Events) }})
	if err != nil {
		return r, err
	}
	r = report.Compare("forward", of, "events/s", c[2], c[0].Beside(forwardIDAlone), c[1].Beside(forwardSameHeaders))
	if err := b.removeEvents(ctx); err != nil {
		return r, err
	}
	return r, b.Drop(ctx, s)
}

// filled makes the outbox orders with a backlog.
func (b *run) filled(ctx context.Context, s *world.Service, events, size int) error {
	if err := s.CreateOutbox(ctx, "orders"); err != nil {
		return err
	}
	return s.Fill(ctx, "orders", events, size)
}

// newStream makes the stream anew, as a forward pipeline would.
func (b *run) newStream(ctx context.Context) (jetstream.Stream, error) {
	return b.NewStream(ctx, "events", "events")
}

func (b *run) removeEvents(ctx context.Context) error {
	return b.RemoveStream(ctx, b.Durable("events"))
}

func (b *run) forwardByHand(ctx context.Context, s *world.Service, headers yardstick.Headers) (float64, error) {
	if _, err := b.newStream(ctx); err != nil {
		return 0, err
	}
	begun := time.Now()
	moved, err := yardstick.Forward(ctx, s.Conn, b.JS, b.Subject("events"), headers)
	if err == nil && moved != b.options.Events {
		err = fmt.Errorf("it moved %d events of %d", moved, b.options.Events)
	}
	return turns.Since(moved, begun), err
}

// forwardByRelay gives the running relay a new pipeline. Time counts from the
// first event: connecting is no part of a loop either.
func (b *run) forwardByRelay(ctx context.Context, s *world.Service, events int) (float64, error) {
	stream, err := b.newStream(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.Forward(ctx, "out", "orders", b.Durable("events"), b.Subject("events"), b.shape()); err != nil {
		return 0, err
	}
	before, err := arrived(ctx, s, stream, 1)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err := arrived(ctx, s, stream, events); err != nil {
		return 0, err
	}
	rate := turns.Since(events-before, begun)
	return rate, s.DeletePipeline(ctx, "out")
}

// arrived waits until a stream holds a number of messages, and says how many
// it holds then.
func arrived(ctx context.Context, s *world.Service, stream jetstream.Stream, wanted int) (held int, err error) {
	err = turns.Until(ctx, lookEvery, func() (bool, error) {
		info, err := stream.Info(ctx)
		if err != nil {
			return false, fmt.Errorf("ask for the stream: %w", err)
		}
		held = int(info.State.Msgs)
		return held >= wanted, s.Alive()
	})
	return held, err
}
