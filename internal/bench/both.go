package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/turns"
	"github.com/pg-tide/pg-tide/internal/bench/world"
	"github.com/pg-tide/pg-tide/internal/bench/yardstick"
)

// bothPromised is the rate of three services that send and receive at once,
// to that of loops that do the same.
const bothPromised = 0.85

// measureBoth has three services each send a backlog to the next, and receive.
func measureBoth(ctx context.Context, b *run) ([]report.Result, error) {
	each, size := b.options.Events/len(flowServices), b.options.Sizes[0]
	services, err := b.servicesWith(ctx, func(s *world.Service) error {
		return errors.Join(b.filled(ctx, s, each, size), yardstick.PrepareForward(ctx, s.Conn))
	})
	if err != nil {
		return nil, err
	}
	of := fmt.Sprintf("%d events of %d B each, three services", each, size)
	round := 0
	c, err := b.alternate(ctx, "both, "+of,
		runner{Name: "loops", Run: func(ctx context.Context) (float64, error) { round++; return b.bothByHand(ctx, services, each, round) }},
		runner{Name: "pg_tide", Run: func(ctx context.Context) (float64, error) { return b.bothByRelays(ctx, services, each, round) }})
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		if err := b.RemoveStream(ctx, b.Durable(way(s))); err != nil {
			return nil, err
		}
	}
	return []report.Result{report.Compare("both", of, "events/s", c[1], c[0].Beside(bothPromised))}, b.DropAll(ctx)
}

// way is the name of what carries the events of a service to the next.
func way(s *world.Service) string { return "way_" + s.Name }

// newWays makes the streams anew.
func (b *run) newWays(ctx context.Context, services []*world.Service) ([]jetstream.Stream, error) {
	streams := make([]jetstream.Stream, len(services))
	var err error
	for i, s := range services {
		if streams[i], err = b.NewStream(ctx, way(s), way(s)); err != nil {
			return nil, err
		}
	}
	return streams, nil
}

// bothByHand runs a loop out and a loop in for each service, on connections of
// their own.
func (b *run) bothByHand(ctx context.Context, services []*world.Service, each, round int) (float64, error) {
	streams, err := b.newWays(ctx, services)
	if err != nil {
		return 0, err
	}
	for _, s := range services {
		if err := yardstick.PrepareReverse(ctx, s.Conn); err != nil {
			return 0, err
		}
	}
	var running sync.WaitGroup
	failed := make([]error, 2*len(services))
	begun := time.Now()
	for i, s := range services {
		next := services[(i+1)%len(services)]
		running.Go(func() { failed[2*i] = b.outByHand(ctx, s) })
		running.Go(func() {
			durable := fmt.Sprintf("%s_%d", b.Durable("by_hand"), round)
			failed[2*i+1] = yardstick.Reverse(ctx, next.Conn, streams[i], durable, each)
		})
	}
	running.Wait()
	return turns.Since(len(services)*each, begun), errors.Join(failed...)
}

func (b *run) outByHand(ctx context.Context, s *world.Service) error {
	conn, err := world.ConnectTo(ctx, s.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the database goes as well
	_, err = yardstick.Forward(ctx, conn, b.JS, b.Subject(way(s)), yardstick.CloudEvents)
	return err
}

// bothByRelays gives the running relays their pipelines. Time counts from then:
// the loops connect as well.
func (b *run) bothByRelays(ctx context.Context, services []*world.Service, each, round int) (float64, error) {
	streams, err := b.newWays(ctx, services)
	if err != nil {
		return 0, err
	}
	in := fmt.Sprintf("in%d", round)
	for _, s := range services {
		if err := s.CreateInbox(ctx, in); err != nil {
			return 0, err
		}
	}
	begun := time.Now()
	for i, s := range services {
		next, stream, subject := services[(i+1)%len(services)], b.Durable(way(s)), b.Subject(way(s))
		if err := errors.Join(s.Forward(ctx, "out", "orders", stream, subject, b.shape()),
			next.Reverse(ctx, in, in, stream, subject, b.shape())); err != nil {
			return 0, err
		}
	}
	for i, s := range services {
		next := services[(i+1)%len(services)]
		if _, err := b.taken(ctx, next, streams[i], in, each); err != nil {
			return 0, err
		}
		if err := s.Alive(); err != nil {
			return 0, err
		}
	}
	rate := turns.Since(len(services)*each, begun)
	for _, s := range services {
		if err := errors.Join(s.DeletePipeline(ctx, "out"), s.DeletePipeline(ctx, in)); err != nil {
			return 0, err
		}
	}
	return rate, nil
}
