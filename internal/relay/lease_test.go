package relay

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// leaping is a clock that can be put forward as sleep does it: no timer fires.
type leaping struct {
	retry.System
	by atomic.Int64
}

func (c *leaping) Now() time.Time { return c.System.Now().Add(time.Duration(c.by.Load())) }

// guarded is a sink that was given a guard.
type guarded struct {
	*fakeSink
	owns func() error
}

func (g *guarded) Guard(owns func() error) { g.owns = owns }

func TestARelayThatWakesUpPastItsLeaseSendsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, clock := newFlow(events(5)), &leaping{}
		sink := &guarded{fakeSink: f.sink}
		build := builderFunc(func(spec pipeline.Spec) (Plan, error) {
			return Plan{Spec: spec, Limits: f.limits, Codec: fakeCodec{}, DeadLetters: f.letters, Reader: f.outbox, Sink: sink}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		s := NewSupervisor(f.registry, build, clock, slog.New(slog.DiscardHandler), Options{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.Run(ctx)
		}()
		defer func() { cancel(); <-ended }()
		await(t, "delivery", func() bool { return f.outbox.position() == 5 })
		if err := sink.owns(); err != nil {
			t.Fatalf("the sink may not publish: %v", err)
		}

		f.registry.failWith(errAway)
		clock.by.Store(int64(time.Hour))
		f.outbox.publish(events(10)[5:]...)
		if err := sink.owns(); err == nil {
			t.Fatal("the sink may publish although the lease has ended")
		}
		<-time.After(10 * time.Second)
		if n := len(sink.all()); n != 5 {
			t.Fatalf("%d events were sent, 5 of them before the sleep", n)
		}
		f.registry.failWith(nil)
		await(t, "the rest", func() bool { return f.outbox.position() == 10 })
	})
}

func TestAPipelineLostInSleepIsNotDrainedButDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, clock := newFlow(events(5)), &leaping{}
		f.sink.receipts = make(chan struct{}) // a drain would wait for them
		ctx, cancel := context.WithCancel(t.Context())
		s := NewSupervisor(f.registry, builderFunc(func(spec pipeline.Spec) (Plan, error) {
			return Plan{Spec: spec, Limits: f.limits, Codec: fakeCodec{}, DeadLetters: f.letters, Reader: f.outbox, Sink: f.sink}, nil
		}), clock, slog.New(slog.DiscardHandler), Options{StopGrace: time.Hour})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.Run(ctx)
		}()
		defer func() { cancel(); <-ended }()
		await(t, "the start", func() bool { return len(f.sink.all()) == 5 })
		clock.by.Store(int64(time.Hour))
		f.registry.own()
		begun := time.Now()
		await(t, "the end", func() bool { return len(s.Pipelines()) == 0 })
		if took := time.Since(begun); took > time.Minute {
			t.Fatalf("took %v", took)
		}
	})
}

func TestALeaseIsOverByWhicheverClockSaysMore(t *testing.T) {
	t.Parallel()
	at := time.Now()
	from := moment{at: at, boot: time.Hour, known: true}
	without := moment{at: at}
	const hour = time.Hour
	for name, c := range map[string]struct {
		from, to moment
		want     time.Duration
	}{
		"nobody slept":                         {from, moment{at.Add(time.Minute), hour + time.Minute, true}, time.Minute},
		"the machine slept":                    {from, moment{at, hour + time.Minute, true}, time.Minute},
		"asleep, with no clock that counts it": {without, moment{at: at.Round(0).Add(time.Minute)}, time.Minute},
		"awake, with no clock that counts it":  {without, moment{at: at.Add(time.Minute)}, time.Minute},
	} {
		if d := elapsed(c.from, c.to); d != c.want {
			t.Errorf("%s: %v, want %v", name, d, c.want)
		}
	}
	if d := elapsed(without, moment{at: at.Round(0).Add(-time.Hour)}); d > 0 {
		t.Errorf("a clock that was set back: %v", d)
	}
}
