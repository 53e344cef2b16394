package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

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

	// latePatience is how long an event may be on its way at the end.
	latePatience = 30 * time.Second
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
		running.Go(func() { failed[2*i] = f.publish(ctx, pace, events, payload) })
		running.Go(func() { failed[2*i+1] = f.follow(ctx, events) })
		// The services do not publish at the same moment.
		time.Sleep(pace / time.Duration(len(flows)))
	}
	running.Wait()
	var took []float64
	for _, f := range flows {
		took = append(took, f.took...)
		f.close(ctx)
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

// flow is the way from one service's outbox to the next one's inbox.
type flow struct {
	from, to           *pgx.Conn
	mu                 sync.Mutex
	committed, visible map[string]time.Time
	took               []float64 // milliseconds
	last               int64     // the last message that was seen
}

// flows makes the services, each with an outbox and an inbox.
func (b *run) flows(ctx context.Context) ([]*flow, error) {
	services := make([]*world.Service, len(flowServices))
	for i, name := range flowServices {
		s, err := b.Service(ctx, name)
		if err != nil {
			return nil, err
		}
		services[i] = s
		if err := errors.Join(s.CreateOutbox(ctx, "orders"), s.CreateInbox(ctx, "arrived")); err != nil {
			return nil, err
		}
		if err := s.StartRelay(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := b.NewStream(ctx, "events", "flow.>"); err != nil {
		return nil, err
	}
	stream := b.Durable("events")
	var flows []*flow
	for i, s := range services {
		next := services[(i+1)%len(services)]
		if err := s.Forward(ctx, "out", "orders", stream, b.Subject("flow."+s.Name), 1); err != nil {
			return nil, err
		}
		if err := next.Reverse(ctx, "in_"+s.Name, "arrived", stream, b.Subject("flow."+s.Name), 1); err != nil {
			return nil, err
		}
		f, err := newFlow(ctx, s, next)
		if err != nil {
			return nil, err
		}
		flows = append(flows, f)
	}
	return flows, b.settled(ctx, flows)
}

func newFlow(ctx context.Context, from, to *world.Service) (f *flow, err error) {
	f = &flow{committed: map[string]time.Time{}, visible: map[string]time.Time{}}
	if f.from, err = world.ConnectTo(ctx, from.DSN); err != nil {
		return nil, err
	}
	if f.to, err = world.ConnectTo(ctx, to.DSN); err != nil {
		return nil, err
	}
	if _, err := f.to.Exec(ctx, `listen "tide_inbox_arrived"`); err != nil {
		return nil, fmt.Errorf("listen to the inbox: %w", err)
	}
	return f, nil
}

// settled sends an event along each way and waits for it, so that nothing is
// measured before all is connected.
func (b *run) settled(ctx context.Context, flows []*flow) error {
	for _, f := range flows {
		if err := errors.Join(f.publish(ctx, time.Millisecond, 1, payloadOf(leastSize)), f.follow(ctx, 1)); err != nil {
			return err
		}
		f.took = nil
	}
	return nil
}

func (f *flow) close(ctx context.Context) {
	_ = f.from.Close(ctx) // the databases go as well
	_ = f.to.Close(ctx)
}

// publish commits an event every pace, whether the one before has arrived or not.
func (f *flow) publish(ctx context.Context, pace time.Duration, events int, payload string) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := range events {
		var id string
		if err := f.from.QueryRow(ctx, publishSQL, fmt.Sprint(n%100), payload).Scan(&id); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		f.note(f.committed, f.visible, id)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// note says that an event was seen at one end; the other end may have been first.
func (f *flow) note(here, there map[string]time.Time, id string) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, met := there[id]; met {
		delete(there, id)
		f.took = append(f.took, float64(now.Sub(other).Abs().Microseconds())/1000)
		return
	}
	here[id] = now
}

// follow sees a number of events in the inbox: it waits for the notification
// of each batch and reads what is new, as a worker does.
func (f *flow) follow(ctx context.Context, events int) error {
	for seen := 0; ; {
		rows, err := f.to.Query(ctx, arrivedSQL, f.last)
		if err != nil {
			return fmt.Errorf("read the inbox: %w", err)
		}
		var id string
		if _, err := pgx.ForEachRow(rows, []any{&f.last, &id}, func() error {
			f.note(f.visible, f.committed, id)
			seen++
			return nil
		}); err != nil {
			return fmt.Errorf("read the inbox: %w", err)
		}
		if seen >= events {
			return nil
		}
		waiting, cancel := context.WithTimeout(ctx, latePatience)
		_, err = f.to.WaitForNotification(waiting)
		cancel()
		if err != nil {
			return fmt.Errorf("%d of %d events arrived: %w", seen, events, err)
		}
	}
}
