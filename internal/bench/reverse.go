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

// What the project promises of the way in, beside the loop.
const (
	reverseOneLane   = 0.90
	reverseFourLanes = 1.30
)

// measureReverse moves a stream's backlog to an inbox.
func measureReverse(ctx context.Context, b *run) ([]report.Result, error) {
	var results []report.Result
	for _, size := range b.options.Sizes {
		result, err := b.reverseOf(ctx, size)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func (b *run) reverseOf(ctx context.Context, size int) (r report.Result, err error) {
	from, err := b.Service(ctx, "orders")
	if err != nil {
		return r, err
	}
	stream, err := b.filledStream(ctx, from, size)
	if err != nil {
		return r, err
	}
	if err := b.Drop(ctx, from); err != nil {
		return r, err
	}
	s, err := b.Service(ctx, "stock")
	if err != nil {
		return r, err
	}
	if err := s.StartRelay(ctx); err != nil {
		return r, err
	}
	of := fmt.Sprintf("%d events of %d B", b.options.Events, size)
	if b.options.Lanes > 1 {
		of += fmt.Sprintf(", %d lanes", b.options.Lanes)
	}
	round := 0
	c, err := b.alternate(ctx, "reverse, "+of,
		runner{Name: "loop", Run: func(ctx context.Context) (float64, error) { round++; return b.reverseByHand(ctx, s, stream, round) }},
		runner{Name: "pg_tide", Run: func(ctx context.Context) (float64, error) { return b.reverseByRelay(ctx, s, stream, round) }})
	if err != nil {
		return r, err
	}
	promised := reverseOneLane
	if b.options.Lanes >= 4 {
		promised = reverseFourLanes
	}
	r = report.Compare("reverse", of, "events/s", c[1], c[0].Beside(promised))
	if err := b.removeEvents(ctx); err != nil {
		return r, err
	}
	return r, b.Drop(ctx, s)
}

// filledStream has a relay fill the stream, so that its messages are what the
// product sends.
func (b *run) filledStream(ctx context.Context, s *world.Service, size int) (jetstream.Stream, error) {
	if err := b.filled(ctx, s, b.options.Events, size); err != nil {
		return nil, err
	}
	if err := s.StartRelay(ctx); err != nil {
		return nil, err
	}
	stream, err := b.newStream(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Forward(ctx, "out", "orders", b.Durable("events"), b.Subject("events"), b.shape()); err != nil {
		return nil, err
	}
	_, err = arrived(ctx, s, stream, b.options.Events)
	return stream, err
}

func (b *run) reverseByHand(ctx context.Context, s *world.Service, stream jetstream.Stream, round int) (float64, error) {
	if err := yardstick.PrepareReverse(ctx, s.Conn); err != nil {
		return 0, err
	}
	durable := fmt.Sprintf("%s_%d", b.Durable("by_hand"), round)
	begun := time.Now()
	if err := yardstick.Reverse(ctx, s.Conn, stream, durable, b.options.Events); err != nil {
		return 0, err
	}
	rate := turns.Since(b.options.Events, begun)
	return rate, stream.DeleteConsumer(ctx, durable)
}

// reverseByRelay gives the running relay an inbox and a pipeline. Time counts
// from the first batch; the end is when the consumer has nothing left to
// deliver and no acknowledgement is missing, which follow the inserts.
func (b *run) reverseByRelay(ctx context.Context, s *world.Service, stream jetstream.Stream, round int) (float64, error) {
	name := fmt.Sprintf("in%d", round)
	if err := s.CreateInbox(ctx, name); err != nil {
		return 0, err
	}
	if err := s.Reverse(ctx, name, name, b.Durable("events"), b.Subject("events"), b.shape()); err != nil {
		return 0, err
	}
	before, err := b.taken(ctx, s, stream, name, 1)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err := b.taken(ctx, s, stream, name, b.options.Events); err != nil {
		return 0, err
	}
	rate := turns.Since(b.options.Events-before, begun)
	if err := s.DeletePipeline(ctx, name); err != nil {
		return 0, err
	}
	return rate, stream.DeleteConsumer(ctx, b.Durable(name))
}

// taken waits until a pipeline's consumer has acknowledged a number of
// messages, and says how many it has then.
func (b *run) taken(ctx context.Context, s *world.Service, stream jetstream.Stream, pipeline string, wanted int) (acknowledged int, err error) {
	var consumer jetstream.Consumer
	err = turns.Until(ctx, lookEvery, func() (bool, error) {
		if consumer == nil {
			if consumer, err = stream.Consumer(ctx, b.Durable(pipeline)); err != nil {
				consumer = nil
				return false, s.Alive() // not made yet
			}
		}
		info, err := consumer.Info(ctx)
		if err != nil {
			return false, fmt.Errorf("ask for the consumer: %w", err)
		}
		acknowledged = int(info.AckFloor.Stream)
		return acknowledged >= wanted, s.Alive()
	})
	return acknowledged, err
}
