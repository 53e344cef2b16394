package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/bench/yardstick"
)

const (
	// yardstickPending is how many acknowledgements the loops wait for at most.
	yardstickPending = 4000
	lookEvery        = 2 * time.Millisecond

	// What the project promises of the way out, beside the two loops.
	forwardSameHeaders = 0.90
	forwardIDAlone     = 0.75
)

// streamNames are those of all streams that a run may leave behind.
var streamNames = []string{"events"}

// measureForward moves a backlog from an outbox to a stream.
func measureForward(ctx context.Context, w *world) ([]Result, error) {
	var results []Result
	for _, size := range w.options.Sizes {
		result, err := w.forwardOf(ctx, size)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func (w *world) forwardOf(ctx context.Context, size int) (r Result, err error) {
	s, err := w.service(ctx, "orders")
	if err != nil {
		return r, err
	}
	if err := s.fill(ctx, "orders", w.options.Events, size); err != nil {
		return r, err
	}
	if err := yardstick.PrepareForward(ctx, s.conn); err != nil {
		return r, err
	}
	if err := s.startRelay(ctx); err != nil {
		return r, err
	}
	of := fmt.Sprintf("%d events of %d B", w.options.Events, size)
	loop := func(headers yardstick.Headers) func(ctx context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) { return w.forwardByHand(ctx, s, headers) }
	}
	c, err := w.alternate(ctx, "forward, "+of,
		runner{"loop with the id alone", loop(yardstick.IDAlone)},
		runner{"loop with the same headers", loop(yardstick.CloudEvents)},
		runner{"pg_tide", func(ctx context.Context) (float64, error) { return w.forwardByRelay(ctx, s) }})
	if err != nil {
		return r, err
	}
	r = compare("forward", of, "events/s", c[2], yardsticked{c[0], forwardIDAlone}, yardsticked{c[1], forwardSameHeaders})
	if err := w.removeStream(ctx, "events"); err != nil {
		return r, err
	}
	return r, w.drop(ctx, s)
}

// newStream makes the stream anew, as a forward pipeline would.
func (w *world) newStream(ctx context.Context) (jetstream.Stream, error) {
	if err := w.removeStream(ctx, "events"); err != nil {
		return nil, err
	}
	return w.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: w.stream("events"), Subjects: []string{w.subject("events")}, Storage: jetstream.FileStorage,
	})
}

func (w *world) forwardByHand(ctx context.Context, s *service, headers yardstick.Headers) (float64, error) {
	if _, err := w.newStream(ctx); err != nil {
		return 0, err
	}
	begun := time.Now()
	moved, err := yardstick.Forward(ctx, s.conn, w.js, w.subject("events"), headers)
	if err == nil && moved != w.options.Events {
		err = fmt.Errorf("it moved %d events of %d", moved, w.options.Events)
	}
	return since(moved, begun), err
}

// forwardByRelay gives the running relay a new pipeline. Time counts from the
// first event: connecting is no part of a loop either.
func (w *world) forwardByRelay(ctx context.Context, s *service) (float64, error) {
	stream, err := w.newStream(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.forward(ctx, "out", "orders", w.stream("events"), w.subject("events")); err != nil {
		return 0, err
	}
	before, err := s.arrived(ctx, stream, 1)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err := s.arrived(ctx, stream, w.options.Events); err != nil {
		return 0, err
	}
	rate := since(w.options.Events-before, begun)
	return rate, s.exec(ctx, relayDeleteSQL, "out")
}

// arrived waits until a stream holds a number of messages, and says how many
// it holds then.
func (s *service) arrived(ctx context.Context, stream jetstream.Stream, wanted int) (held int, err error) {
	err = until(ctx, lookEvery, func() (bool, error) {
		info, err := stream.Info(ctx)
		if err != nil {
			return false, fmt.Errorf("ask for the stream: %w", err)
		}
		held = int(info.State.Msgs)
		return held >= wanted, s.alive()
	})
	return held, err
}
