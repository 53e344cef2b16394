// Package kafka measures the ways to and from Kafka, beside loops written by
// hand with the same client. It refuses to compare Kafka with anything else.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/turns"
	"github.com/pg-tide/pg-tide/internal/bench/world"
	"github.com/pg-tide/pg-tide/internal/bench/yardstick"
)

const (
	lookEvery = 5 * time.Millisecond

	// What the project promises of both ways, beside the loop.
	promised = 0.85
)

// Options say what is moved, and how often.
type Options struct {
	Events, Rounds int
	Sizes          []int
	Shape          world.Shape
}

// run is one measurement.
type run struct {
	*world.World
	options Options
	size    int
}

// Forward moves a backlog from an outbox to a topic.
func Forward(ctx context.Context, w *world.World, o Options) ([]report.Result, error) {
	return each(ctx, w, o, (*run).forward)
}

// Reverse moves a topic's backlog to an inbox.
func Reverse(ctx context.Context, w *world.World, o Options) ([]report.Result, error) {
	return each(ctx, w, o, (*run).reverse)
}

func each(ctx context.Context, w *world.World, o Options, measure func(*run, context.Context) (report.Result, error)) ([]report.Result, error) {
	var results []report.Result
	for _, size := range o.Sizes {
		result, err := measure(&run{World: w, options: o, size: size}, ctx)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func (r *run) of() string {
	of := fmt.Sprintf("Kafka, %d events of %d B", r.options.Events, r.size)
	if r.options.Shape.Lanes > 1 {
		of += fmt.Sprintf(", %d lanes", r.options.Shape.Lanes)
	}
	return of
}

// newTopic makes a topic in which one lane meets one partition.
func (r *run) newTopic(ctx context.Context) (string, error) {
	return r.Kafka.NewTopic(ctx, max(r.options.Shape.Lanes, 1))
}

func (r *run) forward(ctx context.Context) (report.Result, error) {
	s, err := r.filled(ctx)
	if err != nil {
		return report.Result{}, err
	}
	if err := yardstick.PrepareForward(ctx, s.Conn); err != nil {
		return report.Result{}, err
	}
	c, err := turns.Take(ctx, r.Progress, r.options.Rounds, "forward, "+r.of(),
		turns.Runner{Name: "loop with the same headers", Run: func(ctx context.Context) (float64, error) { return r.forwardByHand(ctx, s) }},
		turns.Runner{Name: "pg_tide", Run: func(ctx context.Context) (float64, error) {
			rate, topic, err := r.forwardByRelay(ctx, s)
			return rate, errors.Join(err, r.removeTopic(ctx, topic))
		}})
	if err != nil {
		return report.Result{}, err
	}
	return report.Compare("forward", r.of(), "events/s", c[1], c[0].Beside(promised)), r.Drop(ctx, s)
}

// filled makes a service with a backlog, and its relay.
func (r *run) filled(ctx context.Context) (*world.Service, error) {
	s, err := r.Service(ctx, "orders")
	if err != nil {
		return nil, err
	}
	if err := s.CreateOutbox(ctx, "orders"); err != nil {
		return nil, err
	}
	if err := s.Fill(ctx, "orders", r.options.Events, r.size); err != nil {
		return nil, err
	}
	return s, s.StartRelay(ctx)
}

func (r *run) removeTopic(ctx context.Context, topic string) error {
	if topic == "" {
		return nil
	}
	return r.Kafka.RemoveTopic(ctx, topic)
}

func (r *run) forwardByHand(ctx context.Context, s *world.Service) (float64, error) {
	topic, err := r.newTopic(ctx)
	if err != nil {
		return 0, err
	}
	var begun time.Time
	moved, err := yardstick.ToKafka(ctx, s.Conn, r.Kafka.Seeds(), topic, yardstick.CloudEvents, func() { begun = time.Now() })
	if err == nil && moved != r.options.Events {
		err = fmt.Errorf("it moved %d events of %d", moved, r.options.Events)
	}
	rate := turns.Since(moved, begun)
	return rate, errors.Join(err, r.removeTopic(ctx, topic))
}

// forwardByRelay gives the running relay a new pipeline, and leaves the topic
// full. See timed for where time begins.
func (r *run) forwardByRelay(ctx context.Context, s *world.Service) (rate float64, topic string, err error) {
	if topic, err = r.newTopic(ctx); err != nil {
		return 0, "", err
	}
	if err := s.ToKafka(ctx, "out", "orders", topic, r.options.Shape); err != nil {
		return 0, topic, err
	}
	stored := func() (int, error) { return r.Kafka.Stored(ctx, topic) }
	if rate, err = r.timed(ctx, s, stored); err != nil {
		return 0, topic, err
	}
	return rate, topic, s.DeletePipeline(ctx, "out")
}

// timed waits until as many events as there are were moved, and returns the
// rate from the last look on that found none: on a busy machine the next may
// find all of them.
func (r *run) timed(ctx context.Context, s *world.Service, moved func() (int, error)) (float64, error) {
	begun := time.Now()
	err := turns.Until(ctx, lookEvery, func() (bool, error) {
		looked := time.Now()
		n, err := moved()
		if err != nil {
			return false, err
		}
		if n == 0 {
			begun = looked
		}
		return n >= r.options.Events, s.Alive()
	})
	return turns.Since(r.options.Events, begun), err
}

func (r *run) reverse(ctx context.Context) (report.Result, error) {
	from, err := r.filled(ctx)
	if err != nil {
		return report.Result{}, err
	}
	// What lies in the topic is what the product sends.
	_, topic, err := r.forwardByRelay(ctx, from)
	if err != nil {
		return report.Result{}, err
	}
	if err := r.Drop(ctx, from); err != nil {
		return report.Result{}, err
	}
	s, err := r.Service(ctx, "stock")
	if err != nil {
		return report.Result{}, err
	}
	if err := s.StartRelay(ctx); err != nil {
		return report.Result{}, err
	}
	round := 0
	c, err := turns.Take(ctx, r.Progress, r.options.Rounds, "reverse, "+r.of(),
		turns.Runner{Name: "loop", Run: func(ctx context.Context) (float64, error) { return r.reverseByHand(ctx, s, topic) }},
		turns.Runner{Name: "pg_tide", Run: func(ctx context.Context) (float64, error) {
			round++
			return r.reverseByRelay(ctx, s, topic, fmt.Sprintf("in%d", round))
		}})
	if err != nil {
		return report.Result{}, err
	}
	result := report.Compare("reverse", r.of(), "events/s", c[1], c[0].Beside(promised))
	return result, errors.Join(r.removeTopic(ctx, topic), r.Drop(ctx, s))
}

// reverseByHand counts time as timed does: joining a group is no part of the
// work.
func (r *run) reverseByHand(ctx context.Context, s *world.Service, topic string) (float64, error) {
	if err := yardstick.PrepareReverse(ctx, s.Conn); err != nil {
		return 0, err
	}
	var begun time.Time
	err := yardstick.FromKafka(ctx, s.Conn, r.Kafka.Seeds(), topic, r.Kafka.NewGroup(), r.options.Events, func() { begun = time.Now() })
	return turns.Since(r.options.Events, begun), err
}

// reverseByRelay gives the running relay an inbox and a pipeline. An offset is
// committed after the insert.
func (r *run) reverseByRelay(ctx context.Context, s *world.Service, topic, name string) (float64, error) {
	if err := s.CreateInbox(ctx, name); err != nil {
		return 0, err
	}
	group := r.Kafka.NewGroup()
	if err := s.FromKafka(ctx, name, name, topic, group, r.options.Shape); err != nil {
		return 0, err
	}
	rate, err := r.timed(ctx, s, func() (int, error) { return r.Kafka.Committed(ctx, group, topic) })
	if err != nil {
		return 0, err
	}
	return rate, s.DeletePipeline(ctx, name)
}
