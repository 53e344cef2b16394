package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/bench/load"
	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

const (
	// steadyRate is how many events a second all services publish together, for
	// steadyTime; quietEvery is the time between two events of a quiet bus,
	// of which there are quietEvents for each round.
	steadyRate  = 500
	steadyTime  = 10 * time.Second
	quietEvery  = 2 * time.Second
	quietEvents = 5
)

// flowServices are three services that each publish to the next.
var flowServices = []string{"orders", "payments", "stock"}

// limits are what the project promises of a latency, in milliseconds.
type limits struct{ p50, p99, worst float64 }

// measureLatency publishes at a steady rate and sees each event arrive.
func measureLatency(ctx context.Context, b *run) ([]report.Result, error) {
	of := fmt.Sprintf("%d B, %d events/s, three services", b.options.Sizes[0], steadyRate)
	pace := time.Second * time.Duration(len(flowServices)) / steadyRate
	return b.latencyOf(ctx, "latency", of, pace, int(steadyTime/pace)*max(1, b.options.Rounds/2), limits{3, 15, 100})
}

// measureQuiet lets everything fall asleep between two events.
func measureQuiet(ctx context.Context, b *run) ([]report.Result, error) {
	of := fmt.Sprintf("%d B, an event every %s", b.options.Sizes[0], quietEvery)
	return b.latencyOf(ctx, "quiet", of, quietEvery*time.Duration(len(flowServices)), quietEvents*b.options.Rounds/len(flowServices)+1, limits{p50: 5, p99: 20})
}

// latencyOf has each of three services publish a number of events to the next,
// one every pace.
func (b *run) latencyOf(ctx context.Context, name, of string, pace time.Duration, events int, l limits) ([]report.Result, error) {
	flows, err := b.flows(ctx)
	if err != nil {
		return nil, err
	}
	b.Progress.Show(fmt.Sprintf("%s, %s: %d events of each service", name, of, events))
	payload := payloadOf(b.options.Sizes[0])
	var running sync.WaitGroup
	failed := make([]error, 2*len(flows))
	for i, f := range flows {
		running.Go(func() { failed[2*i] = f.Publish(ctx, pace, events, payload) })
		running.Go(func() { failed[2*i+1] = f.Follow(ctx, events) })
		// The services do not publish at the same moment.
		time.Sleep(pace / time.Duration(len(flows)))
	}
	running.Wait()
	var took []float64
	for _, f := range flows {
		took = append(took, f.Took()...)
		f.Close(ctx)
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	if err := b.DropAll(ctx); err != nil {
		return nil, err
	}
	slices.Sort(took)
	return []report.Result{{Case: name, Of: of, Unit: "ms", Less: true, Contenders: []report.Contender{
		{Name: "half within", Values: []float64{report.Quantile(took, 0.5)}, Limit: l.p50},
		{Name: "99 % within", Values: []float64{report.Quantile(took, 0.99)}, Limit: l.p99},
		{Name: "the slowest", Values: []float64{took[len(took)-1]}, Limit: l.worst},
	}}}, b.removeEvents(ctx)
}

// servicesWith makes the services, each prepared and with a relay.
func (b *run) servicesWith(ctx context.Context, prepare func(s *world.Service) error) ([]*world.Service, error) {
	services := make([]*world.Service, len(flowServices))
	for i, name := range flowServices {
		s, err := b.Service(ctx, name)
		if err != nil {
			return nil, err
		}
		services[i] = s
		if err := prepare(s); err != nil {
			return nil, err
		}
		if err := s.StartRelay(ctx); err != nil {
			return nil, err
		}
	}
	return services, nil
}

// flows makes the services, each with an outbox and an inbox.
func (b *run) flows(ctx context.Context) ([]*load.Flow, error) {
	services, err := b.servicesWith(ctx, func(s *world.Service) error {
		return errors.Join(s.CreateOutbox(ctx, "orders"), s.CreateInbox(ctx, "arrived"))
	})
	if err != nil {
		return nil, err
	}
	if _, err := b.NewStream(ctx, "events", "flow.>"); err != nil {
		return nil, err
	}
	stream := b.Durable("events")
	var flows []*load.Flow
	for i, s := range services {
		next := services[(i+1)%len(services)]
		if err := s.Forward(ctx, "out", "orders", stream, b.Subject("flow."+s.Name), world.Shape{Lanes: 1}); err != nil {
			return nil, err
		}
		if err := next.Reverse(ctx, "in_"+s.Name, "arrived", stream, b.Subject("flow."+s.Name), world.Shape{Lanes: 1}); err != nil {
			return nil, err
		}
		f, err := load.NewFlow(ctx, s.DSN, next.DSN, publishSQL)
		if err != nil {
			return nil, err
		}
		flows = append(flows, f)
	}
	return flows, b.settled(ctx, flows)
}

// settled sends an event along each way and waits for it, so that nothing is
// measured before all is connected.
func (b *run) settled(ctx context.Context, flows []*load.Flow) error {
	for _, f := range flows {
		if err := errors.Join(f.Publish(ctx, time.Millisecond, 1, payloadOf(leastSize)), f.Follow(ctx, 1)); err != nil {
			return err
		}
		f.Took() // this one counts for nothing
	}
	return nil
}
