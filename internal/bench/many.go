package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/turns"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

const (
	manyPipelines = 100

	// What the project promises of that many, beside one pipeline.
	manyPromised = 0.75
	manyMemory   = 300 // MiB
)

// measureMany has a hundred pipelines move together what one moves alone: of
// one outbox, and of an outbox each.
func measureMany(ctx context.Context, b *run) ([]report.Result, error) {
	each := max(1, b.options.Events/manyPipelines)
	size := b.options.Sizes[0]
	s, err := b.Service(ctx, "orders")
	if err != nil {
		return nil, err
	}
	if err := b.filled(ctx, s, each*manyPipelines, size); err != nil {
		return nil, err
	}
	if err := errors.Join(s.CreateOutbox(ctx, "shared"), s.Fill(ctx, "shared", each, size)); err != nil {
		return nil, err
	}
	for i := range manyPipelines {
		if err := errors.Join(s.CreateOutbox(ctx, own(i)), s.Fill(ctx, own(i), each, size)); err != nil {
			return nil, err
		}
	}
	if err := s.StartRelay(ctx); err != nil {
		return nil, err
	}
	most := int64(0)
	move := func(outbox func(i int) string) func(ctx context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			rate, err := b.moveTogether(ctx, s, outbox, each)
			_, memory := world.Used(s.PID())
			most = max(most, memory)
			return rate, err
		}
	}
	of := fmt.Sprintf("%d events of %d B, %d pipelines", each*manyPipelines, size, manyPipelines)
	c, err := b.alternate(ctx, "many, "+of,
		runner{Name: "one pipeline", Run: func(ctx context.Context) (float64, error) { return b.forwardByRelay(ctx, s, each*manyPipelines) }},
		runner{Name: "all of one outbox", Run: move(func(int) string { return "shared" })},
		runner{Name: "an outbox each", Run: move(own)})
	if err != nil {
		return nil, err
	}
	results := []report.Result{
		report.Compare("many", of+" of one outbox", "events/s", c[1], c[0].Beside(manyPromised)),
		report.Compare("many", of+" with an outbox each", "events/s", c[2], c[0].Beside(manyPromised)),
	}
	if most > 0 {
		results = append(results, report.Result{Case: "many", Of: of, Unit: "MiB", Less: true,
			Contenders: []report.Contender{{Name: "resident", Values: []float64{float64(most) / (1 << 20)}, Limit: manyMemory}}})
	}
	return results, b.Drop(ctx, s)
}

func own(i int) string { return fmt.Sprintf("own%d", i) }

// moveTogether has the pipelines move events of their outboxes, each to a
// stream of its own, for a stream knows an event's id. They are made paused
// and let go together; time counts from then to the last event of all.
func (b *run) moveTogether(ctx context.Context, s *world.Service, outbox func(i int) string, events int) (rate float64, err error) {
	streams := make([]jetstream.Stream, manyPipelines)
	for i := range streams {
		name := fmt.Sprintf("many%d", i)
		if streams[i], err = b.NewStream(ctx, name, name); err != nil {
			return 0, err
		}
		if err := s.ForwardPaused(ctx, name, outbox(i), b.Durable(name), b.Subject(name), b.shape()); err != nil {
			return 0, err
		}
	}
	begun := time.Now()
	if err := s.EnablePipelines(ctx); err != nil {
		return 0, err
	}
	for _, stream := range streams {
		if _, err := arrived(ctx, s, stream, events); err != nil {
			return 0, err
		}
	}
	rate = turns.Since(manyPipelines*events, begun)
	for i := range streams {
		name := fmt.Sprintf("many%d", i)
		if err := errors.Join(s.DeletePipeline(ctx, name), b.RemoveStream(ctx, b.Durable(name))); err != nil {
			return 0, err
		}
	}
	return rate, nil
}
