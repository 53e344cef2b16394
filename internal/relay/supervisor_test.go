package relay

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// fleet builds forward pipelines of fakes by name.
type fleet struct {
	mu    sync.Mutex
	flows map[string]*flow
	built []pipeline.Spec
	fails func(spec pipeline.Spec) error
}

func (b *fleet) build(spec pipeline.Spec) (Plan, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.built = append(b.built, spec)
	if b.fails != nil {
		if err := b.fails(spec); err != nil {
			return Plan{}, err
		}
	}
	f := b.flows[spec.Name]
	return Plan{Spec: spec, Limits: f.limits, Codec: fakeCodec{}, Changes: f.changes, DeadLetters: f.letters,
		Reader: f.outbox, Sink: f.sink}, nil
}

func spec(id int64, name string) pipeline.Spec {
	return pipeline.Spec{ID: id, Name: name, Direction: pipeline.Forward, Version: 1, Fence: 1}
}

func names(s *Supervisor) (list []string) {
	for _, p := range s.Pipelines() {
		list = append(list, p.Spec.Name)
	}
	return list
}

func TestPipelinesAppearChangeAndVanishWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &fleet{flows: map[string]*flow{"a": newFlow(events(5)), "b": newFlow(events(5))}}
		registry := newRegistry()
		s, stop := start(t, registry, b.build, Options{})
		defer stop()
		synctest.Wait()
		within := func(what string, condition func() bool) {
			t.Helper()
			begun := time.Now()
			await(t, what, condition)
			if took := time.Since(begun); took > time.Second {
				t.Fatalf("%s took %v", what, took)
			}
		}
		registry.own(spec(1, "a"), spec(2, "b"))
		within("both run", func() bool { return slices.Equal(names(s), []string{"a", "b"}) })
		within("both deliver", func() bool { return b.flows["a"].outbox.position()+b.flows["b"].outbox.position() == 10 })
		within("the state is reported", func() bool { return registry.report(2).State == pipeline.StateRunning })

		changed := spec(1, "a")
		changed.Version = 2
		registry.own(changed, spec(2, "b"))
		within("a is built anew", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.built[len(b.built)-1].Version == 2
		})
		if len(registry.released) != 0 {
			t.Fatalf("released %v for a change", registry.released)
		}
		registry.own(changed)
		within("b is gone", func() bool { return slices.Equal(names(s), []string{"a"}) })
		within("b is released", func() bool {
			registry.mu.Lock()
			defer registry.mu.Unlock()
			return slices.Equal(registry.released, []int64{2})
		})
		if n := len(b.built); n != 3 {
			t.Fatalf("built %d times", n)
		}
	})
}

func TestChangeIsFollowedAlthoughTheSinkHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(5))
		f.sink.receipts = make(chan struct{})
		b := &fleet{flows: map[string]*flow{"a": f}}
		registry := newRegistry(spec(1, "a"))
		s, stop := start(t, registry, b.build, Options{})
		defer stop()
		synctest.Wait()
		begun := time.Now()
		registry.own()
		await(t, "the end", func() bool { return len(s.Pipelines()) == 0 })
		if took := time.Since(begun); took > time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestTroubleOfOnePipelineTouchesNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		panics, misconfigured, well := newFlow(events(5)), newFlow(nil), newFlow(events(300))
		well.outbox.all = events(300)
		panics.sink.outcome = func([]string) ([]string, error) {
			var nothing *delivery.Error
			return nil, nothing.Err
		}
		b := &fleet{flows: map[string]*flow{"panics": panics, "misconfigured": misconfigured, "well": well}}
		b.fails = func(spec pipeline.Spec) error {
			if spec.Name == "misconfigured" {
				return delivery.Misconfigured(errors.New(`sink_type "natz" is unknown; did you mean "nats"?`))
			}
			return nil
		}
		registry := newRegistry(spec(1, "panics"), spec(2, "misconfigured"), spec(3, "well"))
		_, stop := start(t, registry, b.build, Options{})
		defer stop()
		await(t, "delivery", func() bool { return well.outbox.position() == 300 })
		<-time.After(time.Minute)
		synctest.Wait()
		if r := registry.report(1); r.State != pipeline.StateWaiting || !strings.Contains(r.Reason, "panic") {
			t.Fatalf("panicking: %+v", r)
		}
		if r := registry.report(2); r.State != pipeline.StateMisconfigured || !strings.Contains(r.Reason, "natz") {
			t.Fatalf("misconfigured: %+v", r)
		}
		if r := registry.report(3); r.State != pipeline.StateRunning {
			t.Fatalf("well: %+v", r)
		}
		// it comes right without a restart
		b.mu.Lock()
		b.fails = nil
		b.mu.Unlock()
		await(t, "mended", func() bool { return registry.report(2).State == pipeline.StateRunning })
	})
}

func TestNewFenceEndsTheOldOwnershipAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(5))
		f.sink.receipts = make(chan struct{})
		b := &fleet{flows: map[string]*flow{"a": f}}
		registry := newRegistry(spec(1, "a"))
		_, stop := start(t, registry, b.build, Options{})
		defer stop()
		synctest.Wait()
		again := spec(1, "a")
		again.Fence = 2
		registry.own(again)
		synctest.Wait()
		if n := len(b.built); n != 2 || b.built[1].Fence != 2 {
			t.Fatalf("built %+v", b.built)
		}
	})
}

func TestPipelinesAreDroppedBeforeTheLeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &fleet{flows: map[string]*flow{"a": newFlow(events(5))}}
		registry := newRegistry(spec(1, "a"))
		s, stop := start(t, registry, b.build, Options{})
		defer stop()
		await(t, "ready", func() bool { return s.NotReady() == "" })
		<-time.After(3 * time.Second)
		registry.failWith(errAway)
		begun := time.Now() // the last heartbeat that succeeded was before
		await(t, "the drop", func() bool { return len(s.Pipelines()) == 0 })
		if took := time.Since(begun); took > 8*time.Second || took < 4*time.Second {
			t.Fatalf("took %v", took)
		}
		if why := s.NotReady(); !strings.Contains(why, "connection refused") {
			t.Fatalf("not ready: %q", why)
		}
		registry.failWith(nil)
		await(t, "the pipeline again", func() bool { return len(s.Pipelines()) == 1 && s.NotReady() == "" })
	})
}

func TestSupervisorsStartAndStopFromTenGoroutines(t *testing.T) {
	t.Parallel()
	var delivered atomic.Int64
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			for range 5 {
				f := newFlow(events(200))
				_, stop := f.start(t)
				for range 3 {
					go stop()
				}
				stop()
				delivered.Add(int64(f.outbox.position()))
				if f.registry.left != 1 {
					t.Errorf("left %d times", f.registry.left)
				}
			}
		})
	}
	wait.Wait()
}

func TestStateChangesAreReportedPromptly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(nil)
		_, stop := f.start(t)
		defer stop()
		begun := time.Now()
		await(t, "running", func() bool { return f.registry.report(1).State == pipeline.StateRunning })
		if took := time.Since(begun); took > 200*time.Millisecond {
			t.Fatalf("took %v", took)
		}
	})
}

func TestRateIsThatOfTheLastSeconds(t *testing.T) {
	t.Parallel()
	var m meter
	now := time.Unix(1000, 0)
	for range 100 {
		m.add(now, 10)
		now = now.Add(100 * time.Millisecond)
	}
	if got := m.rate(now); got != 100 {
		t.Fatalf("steady flow of 100 a second shows %v", got)
	}
	if got := m.rate(now.Add(time.Minute)); got != 0 {
		t.Fatalf("a minute later %v", got)
	}
}

// Another relay may come between the claim and the answer to it: what this one
// then owns too much of, and has never started, must not stay with it.
func TestSurplusIsGivenUpWhetherItRunsOrNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &fleet{flows: map[string]*flow{"a": newFlow(events(5)), "b": newFlow(events(5))}}
		surplus := func(s pipeline.Spec) pipeline.Spec { s.Surplus = true; return s }
		registry := newRegistry(spec(1, "a"), surplus(spec(2, "b")))
		s, stop := start(t, registry, b.build, Options{})
		defer stop()
		released := func(id int64) func() bool {
			return func() bool {
				registry.mu.Lock()
				defer registry.mu.Unlock()
				return slices.Contains(registry.released, id)
			}
		}
		await(t, "what never ran is given up", released(2))
		if got := names(s); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("%v run", got)
		}
		registry.own(surplus(spec(1, "a")))
		await(t, "what runs is stopped and given up", released(1))
		await(t, "nothing runs", func() bool { return len(names(s)) == 0 })
	})
}
