package relay

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/run"
)

// Supervisor keeps the pipelines that this relay owns running, each on its
// own: what happens to one touches no other.
type Supervisor struct {
	registry Registry
	builder  Builder
	clock    retry.Clock
	logger   *slog.Logger
	options  Options
	dirty    chan struct{}
	lease    *lease

	mu    sync.Mutex
	fleet map[int64]*member
	// lost are ownerships that turned out to be another relay's, by pipeline:
	// its fence. They are not taken up again, whatever an older heartbeat says.
	lost  map[int64]int64
	alive bool
	last  error // of the heartbeat

	// aside waits for the small tasks that follow a pipeline's end.
	aside sync.WaitGroup
}

// member is one pipeline of the fleet.
type member struct {
	spec   pipeline.Spec
	runner *runner
	task   *run.Task
	// stopping is set once the task was asked to stop.
	stopping bool
	// next is what to start in its place; nil to release the pipeline.
	next *pipeline.Spec
}

// NewSupervisor returns a supervisor; Run starts it.
func NewSupervisor(registry Registry, builder Builder, clock retry.Clock, logger *slog.Logger, options Options) *Supervisor {
	options = options.withDefaults()
	return &Supervisor{
		registry: registry,
		builder:  builder,
		clock:    clock,
		logger:   logger,
		options:  options,
		lease:    newLease(clock, options.LeaseTime),
		dirty:    make(chan struct{}, 1),
		fleet:    map[int64]*member{},
		lost:     map[int64]int64{},
	}
}

// beat is the outcome of one heartbeat.
type beat struct {
	specs []pipeline.Spec
	begun moment
	err   error
}

// Run works until ctx is done; then it finishes what is in flight, within the
// drain timeout, gives up its pipelines and returns. It runs once.
func (s *Supervisor) Run(ctx context.Context) error {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	beats, ended := make(chan beat), make(chan *member)
	trigger := make(chan struct{}, 1)
	pulse := run.Start(work, func(intake, _ context.Context) error {
		s.pulse(intake, trigger, beats)
		return nil
	})
	reports := run.Start(work, func(intake, work context.Context) error {
		s.reportChanges(intake, work)
		return nil
	})
	s.oversee(ctx, work, trigger, beats, ended)

	pulse.Drain()
	s.drain(ended)
	s.aside.Wait()
	_ = pulse.Wait()
	reports.Drain()
	_ = reports.Wait()
	s.leave(work)
	return nil
}

// oversee starts and stops pipelines until ctx is done.
func (s *Supervisor) oversee(ctx, work context.Context, trigger chan struct{}, beats <-chan beat, ended chan *member) {
	held := false
	var changed time.Time // when the registry last said so; zero once that was followed
	for {
		limit := s.options.LeaseTime
		if held {
			limit = s.lease.left()
		}
		lease := s.clock.NewTimer(limit)
		select {
		case <-ctx.Done():
			lease.Stop()
			return
		case <-s.registry.Changed():
			changed = s.clock.Now()
			signal(trigger)
		case b := <-beats:
			s.noteBeat(b)
			if b.err == nil {
				lapsed := s.lease.renew(b.begun)
				held = true
				s.adopt(work, b.specs, lapsed, ended)
			}
			if b.err == nil && !changed.IsZero() && !b.begun.at.Before(changed) {
				changed = time.Time{}
				s.pokeAll()
			}
		case m := <-ended:
			s.replace(work, m, ended, trigger)
		case <-lease.C():
			held = false
			s.drop()
		}
		lease.Stop()
	}
}

// pulse sends heartbeats, on time and when triggered, one at a time.
func (s *Supervisor) pulse(ctx context.Context, trigger <-chan struct{}, beats chan<- beat) {
	for {
		b := beat{begun: now(s.clock)}
		b.err = call(ctx, s.options.LeaseTime/2, database, "heartbeat", func(ctx context.Context) (err error) {
			return run.Protect(func() (err error) {
				b.specs, err = s.registry.Heartbeat(ctx)
				return err
			})
		})
		select {
		case beats <- b:
		case <-ctx.Done():
			return
		}
		timer := s.clock.NewTimer(s.options.HeartbeatInterval)
		select {
		case <-timer.C():
		case <-trigger:
		case <-ctx.Done():
		}
		timer.Stop()
		if b.err != nil {
			// triggers may come without end while the database is away
			_ = retry.Sleep(ctx, s.clock, s.options.HeartbeatInterval/10)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *Supervisor) noteBeat(b beat) {
	s.mu.Lock()
	was := s.last
	s.last = b.err
	s.alive = s.alive || b.err == nil
	s.mu.Unlock()
	switch {
	case b.err != nil && (was == nil || was.Error() != b.err.Error()):
		s.logger.Warn("heartbeat failed", "error", b.err)
	case b.err == nil && was != nil:
		s.logger.Info("heartbeat works again")
	}
	signal(s.dirty)
}

// adopt makes the fleet what specs say. lapsed says that the lease had ended
// before: what is not ours any more may be another relay's already.
func (s *Supervisor) adopt(work context.Context, specs []pipeline.Spec, lapsed bool, ended chan *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owned := map[int64]bool{}
	for _, spec := range specs {
		m, runs := s.fleet[spec.ID]
		owned[spec.ID] = !spec.Surplus
		if runs && spec.Letters {
			m.runner.lettersSeen.Store(true)
		}
		switch {
		case !runs && (spec.Surplus || s.lost[spec.ID] == spec.Fence):
			// Nobody is told to look again at once: if it fails each time, that
			// would go round without a pause.
			s.beside(work, func(work context.Context) { s.release(work, spec) })
		case !runs:
			s.launch(work, spec, ended)
		case spec.Surplus: // stopped below
		case m.stopping:
			m.next = &spec
		case m.spec.Fence != spec.Fence:
			m.next = &spec
			s.stop(work, m)
			m.task.Cancel(run.ErrStopped) // the old ownership is over: nothing of it may go on
		case m.spec.Version != spec.Version:
			m.next = &spec
			s.stop(work, m)
		}
	}
	for id, m := range s.fleet {
		if !owned[id] && !fault.Mutant(fault.NoFence) {
			m.next = nil
			s.stop(work, m)
			if lapsed {
				m.task.Cancel(errLeaseLost)
			}
		}
	}
}

// launch starts a pipeline. The lock is held.
func (s *Supervisor) launch(work context.Context, spec pipeline.Spec, ended chan *member) {
	m := &member{spec: spec, runner: s.newRunner(spec)}
	s.fleet[spec.ID] = m
	m.task = run.Start(work, m.runner.run)
	s.beside(work, func(context.Context) {
		<-m.task.Done()
		ended <- m
	})
}

// stop asks a pipeline to stop and cuts it off after the grace. The lock is held.
func (s *Supervisor) stop(work context.Context, m *member) {
	if m.stopping {
		return
	}
	m.stopping = true
	m.task.Drain()
	s.beside(work, func(context.Context) {
		timer := s.clock.NewTimer(s.options.StopGrace)
		defer timer.Stop()
		select {
		case <-m.task.Done():
		case <-timer.C():
			m.task.Cancel(run.ErrStopped)
		}
	})
}

// replace follows the end of a pipeline: its next configuration starts, or its
// ownership is given up.
func (s *Supervisor) replace(work context.Context, m *member, ended chan *member, trigger chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.fleet, m.spec.ID)
	if m.next != nil {
		s.launch(work, *m.next, ended)
		return
	}
	// A pipeline that ended by itself is superseded; the release then finds
	// another owner and changes nothing.
	if !m.stopping {
		s.lost[m.spec.ID] = m.spec.Fence
	}
	spec := m.spec
	s.beside(work, func(work context.Context) {
		s.release(work, spec)
		signal(trigger)
	})
}

// release gives up a pipeline that does not run here. If that fails the next
// heartbeat shows it again.
func (s *Supervisor) release(work context.Context, spec pipeline.Spec) {
	_ = call(work, s.options.CloseTimeout, database, "release", func(ctx context.Context) error {
		return s.registry.Release(ctx, spec.ID, spec.Fence)
	})
}

// beside runs f in a goroutine that Run waits for.
func (s *Supervisor) beside(work context.Context, f func(ctx context.Context)) {
	s.aside.Add(1)
	run.Start(work, func(_, work context.Context) error {
		defer s.aside.Done()
		f(work)
		return nil
	})
}

// drop ends all work at once, since others may have taken the pipelines over.
func (s *Supervisor) drop() {
	if fault.Mutant(fault.NoFence) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fleet) > 0 && s.alive {
		s.logger.Error("pipelines dropped", "error", errLeaseLost)
	}
	s.alive = false
	for _, m := range s.fleet {
		m.stopping, m.next = true, nil
		m.task.Cancel(errLeaseLost)
	}
}

// drain stops all pipelines softly, and hard when the time is up.
func (s *Supervisor) drain(ended <-chan *member) {
	fault.At(fault.ShutdownBeforeDrain)
	s.mu.Lock()
	left := len(s.fleet)
	for _, m := range s.fleet {
		m.task.Drain()
	}
	s.mu.Unlock()
	timer := s.clock.NewTimer(s.options.DrainTimeout)
	defer timer.Stop()
	for left > 0 {
		select {
		case <-ended:
			left--
		case <-timer.C():
			s.mu.Lock()
			for _, m := range s.fleet {
				m.task.Cancel(run.ErrStopped)
			}
			s.mu.Unlock()
		}
	}
}

// leave gives up everything, so that others take over at once.
func (s *Supervisor) leave(work context.Context) {
	err := call(work, s.options.CloseTimeout, database, "leave", s.registry.Leave)
	if err != nil {
		s.logger.Warn("leave failed; other relays take over when the lease ends", "error", err)
	}
}

// pokeAll asks pipelines to look for dead letters to retry. It comes after a
// heartbeat that began after the change, and leaves out those that are ending:
// somebody who mends a configuration and then asks for a retry must not have
// the letters tried, and put back, by the old configuration.
func (s *Supervisor) pokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.fleet {
		if !m.stopping {
			m.runner.poke()
		}
	}
}

// NotReady says in words why this relay may own no pipelines, or "".
func (s *Supervisor) NotReady() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.alive:
		return ""
	case s.last != nil:
		return s.last.Error()
	}
	return "the relay has not registered with the database yet"
}

// signal wakes whoever waits on c, now or later, and never blocks.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
