// Package fanout measures what the second and the tenth pipeline of one outbox
// cost: how fast each of its far ends gets all events when there are more of
// them. It refuses to promise anything.
package fanout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

const (
	moveTimeout = 15 * time.Minute
	lookEvery   = 5 * time.Millisecond
)

// Options say how much there is to move.
type Options struct {
	// Events are those of the outbox, Size their payload in bytes.
	Events, Size int
	// Rounds is how often contenders take turns.
	Rounds int
	// Shape is how the pipelines are configured.
	Shape world.Shape
}

// Measure has one, two and ten pipelines deliver all of one outbox, each to a
// stream of its own. A value is the events a second that every far end gets.
func Measure(ctx context.Context, w *world.World, o Options) ([]report.Result, error) {
	s, err := w.Service(ctx, "orders")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.CreateOutbox(ctx, "shared"), s.Fill(ctx, "shared", o.Events, o.Size)); err != nil {
		return nil, err
	}
	if err := s.StartRelay(ctx); err != nil {
		return nil, err
	}
	counts := []int{1, 2, 10}
	contenders := []report.Contender{{Name: "one pipeline"}, {Name: "each of two"}, {Name: "each of ten"}}
	of := fmt.Sprintf("%d events of %d B", o.Events, o.Size)
	for round := range o.Rounds + 1 {
		for i, pipelines := range counts {
			w.Progress.Show(fmt.Sprintf("fanout, %s: %s, round %d of %d", of, contenders[i].Name, round, o.Rounds))
			rate, err := move(ctx, w, s, pipelines, o)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", contenders[i].Name, err)
			}
			if round > 0 {
				contenders[i].Values = append(contenders[i].Values, rate)
			}
		}
	}
	return []report.Result{
		report.Compare("fanout", of, "events/s", contenders[1], contenders[0].Beside(0)),
		report.Compare("fanout", of, "events/s", contenders[2], contenders[0].Beside(0)),
	}, w.Drop(ctx, s)
}

// move makes pipelines paused and lets them go together; time counts from then
// until the last has delivered everything.
func move(ctx context.Context, w *world.World, s *world.Service, pipelines int, o Options) (rate float64, err error) {
	streams := make([]jetstream.Stream, pipelines)
	for i := range streams {
		if streams[i], err = w.NewStream(ctx, name(i), name(i)); err != nil {
			return 0, err
		}
		if err := s.ForwardPaused(ctx, name(i), "shared", w.Durable(name(i)), w.Subject(name(i)), o.Shape); err != nil {
			return 0, err
		}
	}
	begun := time.Now()
	if err := s.EnablePipelines(ctx); err != nil {
		return 0, err
	}
	for _, stream := range streams {
		if err := await(ctx, s, stream, o.Events); err != nil {
			return 0, err
		}
	}
	rate = float64(o.Events) / time.Since(begun).Seconds()
	for i := range streams {
		if err := errors.Join(s.DeletePipeline(ctx, name(i)), w.RemoveStream(ctx, w.Durable(name(i)))); err != nil {
			return 0, err
		}
	}
	return rate, nil
}

func name(i int) string { return fmt.Sprintf("fanout%d", i) }

func await(ctx context.Context, s *world.Service, stream jetstream.Stream, events int) error {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		info, err := stream.Info(ctx)
		if err != nil {
			return fmt.Errorf("ask for the stream: %w", err)
		}
		if int(info.State.Msgs) >= events { //nolint:gosec // as many as were published
			return nil
		}
		if err := s.Alive(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %d events: %w", events, ctx.Err())
		}
	}
}
