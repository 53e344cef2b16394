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

const (
	// backlogTimes is how many times the events of other cases wait here.
	backlogTimes = 50
	// sampleEvery is the time between two looks at the stream and the relay.
	sampleEvery = 20 * time.Millisecond

	// What the project promises of a relay that starts late.
	firstWithin   = 1000 // milliseconds
	backlogMemory = 150  // MiB
	backlogSteady = 0.90 // of the last tenth's rate to the first tenth's
)

// measureBacklog starts a relay when a large backlog waits for it already. The
// loop carries the same backlog first, since what a machine does worse at the end
// than at the beginning, whoever carries the events, is not the relay's doing.
func measureBacklog(ctx context.Context, b *run) ([]report.Result, error) {
	events := backlogTimes * b.options.Events
	s, err := b.Service(ctx, "orders")
	if err != nil {
		return nil, err
	}
	if err := b.filled(ctx, s, events, b.options.Sizes[0]); err != nil {
		return nil, err
	}
	byHand, err := b.backlogByHand(ctx, s, events)
	if err != nil {
		return nil, err
	}
	stream, err := b.newStream(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Forward(ctx, "out", "orders", b.Durable("events"), b.Subject("events"), b.shape()); err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := s.StartRelay(ctx); err != nil {
		return nil, err
	}
	before, err := arrived(ctx, s, stream, 1)
	if err != nil {
		return nil, err
	}
	first := time.Since(begun)
	of := fmt.Sprintf("%d events of %d B", events, b.options.Sizes[0])
	most := int64(0)
	rates, err := b.follow(ctx, stream, before, events, func() error {
		_, memory := world.Used(s.PID())
		most = max(most, memory)
		return s.Alive()
	})
	if err != nil {
		return nil, err
	}
	results := []report.Result{
		tenths("backlog, the loop", of, byHand, 0),
		tenths("backlog", of, rates, backlogSteady),
		{Case: "backlog", Of: of, Unit: "ms", Less: true,
			Contenders: []report.Contender{{Name: "relay's start to first event", Values: []float64{float64(first.Milliseconds())}, Limit: firstWithin}}},
	}
	if most > 0 {
		results = append(results, report.Result{Case: "backlog", Of: of, Unit: "MiB", Less: true,
			Contenders: []report.Contender{{Name: "most resident", Values: []float64{float64(most) / (1 << 20)}, Limit: backlogMemory}}})
	}
	if err := b.removeEvents(ctx); err != nil {
		return nil, err
	}
	return results, b.Drop(ctx, s)
}

// tenths compares the last tenth of a backlog with its first.
func tenths(name, of string, rates []float64, promised float64) report.Result {
	return report.Compare(name, of, "events/s", report.Contender{Name: "last tenth", Values: rates[len(rates)-1:]},
		report.Contender{Name: "first tenth", Values: rates[:1]}.Beside(promised))
}

// backlogByHand has the loop move the backlog, and returns the rate of each tenth.
func (b *run) backlogByHand(ctx context.Context, s *world.Service, events int) ([]float64, error) {
	if err := yardstick.PrepareForward(ctx, s.Conn); err != nil {
		return nil, err
	}
	stream, err := b.newStream(ctx)
	if err != nil {
		return nil, err
	}
	moving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	running.Go(func() {
		_, err := yardstick.Forward(moving, s.Conn, b.JS, b.Subject("events"), yardstick.CloudEvents)
		stop(err)
	})
	rates, err := b.follow(ctx, stream, 0, events, func() error {
		if cause := context.Cause(moving); !errors.Is(cause, context.Canceled) {
			return cause
		}
		return nil
	})
	if err != nil {
		stop(err)
	}
	// The loop saves its last position yet, on a connection that others use after it.
	running.Wait()
	return rates, err
}

// follow waits until all has arrived and returns the rate of each tenth. So
// many have arrived already; look is called at every look at the stream.
func (b *run) follow(ctx context.Context, stream jetstream.Stream, from, events int, look func() error) ([]float64, error) {
	return turns.Tenths(ctx, sampleEvery, from, events, func() (int, error) {
		info, err := stream.Info(ctx)
		if err != nil {
			return 0, fmt.Errorf("ask for the stream: %w", err)
		}
		return int(info.State.Msgs), look()
	}, func(held int, rate float64) {
		b.Progress.Show(fmt.Sprintf("backlog: %d of %d events, %d a second", held, events, int(rate)))
	})
}
