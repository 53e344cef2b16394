package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

const (
	// backlogTimes is how many times the events of other cases wait here.
	backlogTimes = 50
	// sampleEvery is the time between two looks at the stream and the relay.
	sampleEvery = 20 * time.Millisecond

	// What the project promises of a relay that starts late.
	firstWithin     = 1000 // milliseconds
	backlogMemory   = 150  // MiB
	backlogSteady   = 0.90 // of the last part's rate to the first part's
	backlogSections = 10
)

// measureBacklog starts a relay when a large backlog waits for it already.
func measureBacklog(ctx context.Context, b *run) ([]report.Result, error) {
	events := backlogTimes * b.options.Events
	s, err := b.Service(ctx, "orders")
	if err != nil {
		return nil, err
	}
	if err := b.filled(ctx, s, events, b.options.Sizes[0]); err != nil {
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
	rates, most, err := b.follow(ctx, s, stream, before, events)
	if err != nil {
		return nil, err
	}
	last := len(rates) - 1
	results := []report.Result{
		report.Compare("backlog", of, "events/s", report.Contender{Name: "last tenth", Values: rates[last:]},
			report.Contender{Name: "first tenth", Values: rates[:1]}.Beside(backlogSteady)),
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

// follow waits until all has arrived and returns the rate of each tenth, and
// the most memory that the relay had meanwhile. So many have arrived already.
func (b *run) follow(ctx context.Context, s *world.Service, stream jetstream.Stream, from, events int) (rates []float64, most int64, err error) {
	since := time.Now()
	err = until(ctx, sampleEvery, func() (bool, error) {
		info, err := stream.Info(ctx)
		if err != nil {
			return false, fmt.Errorf("ask for the stream: %w", err)
		}
		_, memory := world.Used(s.PID())
		most = max(most, memory)
		held := int(info.State.Msgs)
		if held >= (len(rates)+1)*events/backlogSections {
			rates = append(rates, float64(held-from)/time.Since(since).Seconds())
			from, since = held, time.Now()
			b.Progress.Show(fmt.Sprintf("backlog: %d of %d events, %d a second", held, events, int(rates[len(rates)-1])))
		}
		return held >= events, s.Alive()
	})
	return rates, most, err
}
