package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/bench/yardstick"
)

// What the project promises of the way in, beside the loop.
const (
	reverseOneLane   = 0.90
	reverseFourLanes = 1.30
)

// measureReverse moves a stream's backlog to an inbox.
func measureReverse(ctx context.Context, w *world) ([]Result, error) {
	var results []Result
	for _, size := range w.options.Sizes {
		result, err := w.reverseOf(ctx, size)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func (w *world) reverseOf(ctx context.Context, size int) (r Result, err error) {
	from, err := w.service(ctx, "orders")
	if err != nil {
		return r, err
	}
	stream, err := w.filledStream(ctx, from, size)
	if err != nil {
		return r, err
	}
	if err := w.drop(ctx, from); err != nil {
		return r, err
	}
	s, err := w.service(ctx, "stock")
	if err != nil {
		return r, err
	}
	if err := s.startRelay(ctx); err != nil {
		return r, err
	}
	of := fmt.Sprintf("%d events of %d B", w.options.Events, size)
	if w.options.Lanes > 1 {
		of += fmt.Sprintf(", %d lanes", w.options.Lanes)
	}
	round := 0
	c, err := w.alternate(ctx, "reverse, "+of,
		runner{"loop", func(ctx context.Context) (float64, error) { round++; return w.reverseByHand(ctx, s, stream, round) }},
		runner{"pg_tide", func(ctx context.Context) (float64, error) { return w.reverseByRelay(ctx, s, stream, round) }})
	if err != nil {
		return r, err
	}
	promised := reverseOneLane
	if w.options.Lanes >= 4 {
		promised = reverseFourLanes
	}
	r = compare("reverse", of, "events/s", c[1], yardsticked{c[0], promised})
	if err := w.removeStream(ctx, "events"); err != nil {
		return r, err
	}
	return r, w.drop(ctx, s)
}

// filledStream has a relay fill the stream, so that its messages are what the
// product sends.
func (w *world) filledStream(ctx context.Context, s *service, size int) (jetstream.Stream, error) {
	if err := s.fill(ctx, "orders", w.options.Events, size); err != nil {
		return nil, err
	}
	if err := s.startRelay(ctx); err != nil {
		return nil, err
	}
	stream, err := w.newStream(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.forward(ctx, "out", "orders", w.stream("events"), w.subject("events")); err != nil {
		return nil, err
	}
	_, err = s.arrived(ctx, stream, w.options.Events)
	return stream, err
}

func (w *world) reverseByHand(ctx context.Context, s *service, stream jetstream.Stream, round int) (float64, error) {
	if err := yardstick.PrepareReverse(ctx, s.conn); err != nil {
		return 0, err
	}
	durable := fmt.Sprintf("%s_by_hand_%d", w.prefix, round)
	begun := time.Now()
	if err := yardstick.Reverse(ctx, s.conn, stream, durable, w.options.Events); err != nil {
		return 0, err
	}
	rate := since(w.options.Events, begun)
	return rate, stream.DeleteConsumer(ctx, durable)
}

// reverseByRelay gives the running relay an inbox and a pipeline. Time counts
// from the first batch; the end is when the consumer has nothing left to
// deliver and no acknowledgement is missing, which follow the inserts.
func (w *world) reverseByRelay(ctx context.Context, s *service, stream jetstream.Stream, round int) (float64, error) {
	name := fmt.Sprintf("in%d", round)
	if err := s.exec(ctx, inboxCreateSQL, name); err != nil {
		return 0, err
	}
	if err := s.reverse(ctx, name, name, w.stream("events"), w.subject("events")); err != nil {
		return 0, err
	}
	before, err := s.taken(ctx, stream, name, 1)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err := s.taken(ctx, stream, name, w.options.Events); err != nil {
		return 0, err
	}
	rate := since(w.options.Events-before, begun)
	if err := s.exec(ctx, relayDeleteSQL, name); err != nil {
		return 0, err
	}
	return rate, stream.DeleteConsumer(ctx, w.prefix+"_"+name)
}

// taken waits until a pipeline's consumer has acknowledged a number of
// messages, and says how many it has then.
func (s *service) taken(ctx context.Context, stream jetstream.Stream, pipeline string, wanted int) (acknowledged int, err error) {
	var consumer jetstream.Consumer
	err = until(ctx, lookEvery, func() (bool, error) {
		if consumer == nil {
			if consumer, err = stream.Consumer(ctx, s.world.prefix+"_"+pipeline); err != nil {
				consumer = nil
				return false, s.alive() // not made yet
			}
		}
		info, err := consumer.Info(ctx)
		if err != nil {
			return false, fmt.Errorf("ask for the consumer: %w", err)
		}
		acknowledged = int(info.AckFloor.Stream)
		return acknowledged >= wanted, s.alive()
	})
	return acknowledged, err
}
