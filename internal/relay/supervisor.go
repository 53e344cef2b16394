package relay

import (
	"context"
	"log/slog"
	"sync"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/run"
)

// Supervisor runs the pipelines that the registry says are this relay's. One
// pipeline's trouble, a panic too, is its own.
type Supervisor struct {
	registry Registry
	builder  Builder
	clock    retry.Clock
	log      *slog.Logger
	options  Options

	// dirty asks for a report soon; ended asks to look at pipelines that have
	// ended. One signal of each is kept.
	dirty chan struct{}
	ended chan struct{}

	// changed is set when the registry said that something changed. Only Run's goroutine uses it.
	changed bool

	// stops are the goroutines that see a pipeline to its end.
	stops sync.WaitGroup

	mu     sync.Mutex
	slots  map[int64]*slot
	beaten bool // a heartbeat has succeeded, the last one too
	silent string
}

// slot is a running pipeline and what becomes of it when it ends.
type slot struct {
	spec   pipeline.Spec
	task   *run.Task
	status *status
	kick   chan struct{}
	// stopping is set once it was asked to end; next then follows it, or
	// ownership is given up.
	stopping bool
	next     *pipeline.Spec
}

// Pipeline is what the supervisor shows of a pipeline.
type Pipeline struct {
	Spec   pipeline.Spec
	Report pipeline.Report
}

// NewSupervisor returns a supervisor; Run starts it.
func NewSupervisor(registry Registry, builder Builder, clock retry.Clock, log *slog.Logger, options Options) *Supervisor {
	return &Supervisor{
		registry: registry, builder: builder, clock: clock, log: log, options: options.withDefaults(),
		dirty: make(chan struct{}, 1), ended: make(chan struct{}, 1), slots: map[int64]*slot{},
	}
}

// signal leaves a signal unless one is there already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, and then drains: no new events are taken, what is
// in flight is finished and saved within the drain timeout, and ownership is
// given up, so that another relay takes over at once.
func (s *Supervisor) Run(ctx context.Context) error {
	// Pipelines must outlive ctx to finish what they have.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(run.ErrStopped)
	alive := s.clock.Now()
	for ctx.Err() == nil {
		if s.beat(ctx, work) {
			alive = s.clock.Now()
		} else if s.clock.Now().Sub(alive) >= s.options.LeaseTime {
			s.abandon()
		}
		s.idle(ctx, work)
	}
	return s.drain(work, cancel)
}

// beat renews ownership and follows what the registry says. It tells whether
// the registry answered.
func (s *Supervisor) beat(ctx, work context.Context) bool {
	beatCtx, cancel := context.WithTimeout(ctx, s.options.LeaseTime/2)
	defer cancel()
	specs, err := s.registry.Heartbeat(beatCtx)
	if ctx.Err() != nil {
		return false
	}
	s.mu.Lock()
	s.beaten, s.silent = err == nil, ""
	if err != nil {
		s.silent = err.Error()
	}
	s.mu.Unlock()
	if err != nil {
		s.log.Debug("no heartbeat", "error", err)
		return false
	}
	s.reconcile(work, specs)
	if s.changed {
		s.changed = false
		s.kickAll()
	}
	return true
}

// idle waits for the next heartbeat, or for a reason to beat at once, and
// stores reports and tidies up meanwhile.
func (s *Supervisor) idle(ctx, work context.Context) {
	beat := s.clock.NewTimer(s.options.HeartbeatInterval)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C():
			s.report(ctx, s.countersDue())
			return
		case <-s.registry.Changed():
			s.changed = true
			return
		case <-s.ended:
			if s.tidy(ctx, work) {
				return
			}
		case <-s.dirty:
			if retry.Sleep(ctx, s.clock, stateDelay) == nil {
				s.report(ctx, false)
			}
		}
	}
}

// countersDue tells, once every report interval, that counters are to be reported.
func (s *Supervisor) countersDue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.slots {
		if one.status.age() >= s.options.ReportInterval {
			return true
		}
	}
	return false
}

// reconcile starts what is new, restarts what has changed and stops what is gone.
func (s *Supervisor) reconcile(work context.Context, specs []pipeline.Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owned := map[int64]bool{}
	for _, spec := range specs {
		owned[spec.ID] = true
		current := s.slots[spec.ID]
		switch {
		case current == nil:
			s.start(work, spec)
		case current.spec.Version != spec.Version || current.spec.Fence != spec.Fence || current.finished():
			s.log.Info("pipeline restarts", "pipeline", spec.Name)
			current.next = &spec
			s.stop(current)
		default:
			current.next = nil
			if current.stopping { // wanted again before it had ended
				current.next = &spec
			}
		}
	}
	for id, current := range s.slots {
		if !owned[id] {
			current.next = nil
			s.stop(current)
		}
	}
}

// finished tells whether a pipeline ended by itself: it was superseded.
func (o *slot) finished() bool {
	select {
	case <-o.task.Done():
		return true
	default:
		return false
	}
}

func (s *Supervisor) start(work context.Context, spec pipeline.Spec) {
	log := s.log.With("pipeline", spec.Name)
	one := &slot{spec: spec, kick: make(chan struct{}, 1), status: newStatus(&spec, s.clock, func() { signal(s.dirty) })}
	w := &worker{spec: spec, builder: s.builder, options: s.options, clock: s.clock, log: log, status: one.status, kick: one.kick}
	one.task = run.Start(work, func(intake, work context.Context) error {
		defer signal(s.ended)
		return w.run(intake, work)
	})
	s.slots[spec.ID] = one
	signal(s.dirty)
}

// stop asks a pipeline to end within the drain timeout, without waiting for it.
func (s *Supervisor) stop(one *slot) {
	if one.stopping {
		return
	}
	one.stopping = true
	one.task.Drain()
	task, timeout := one.task, s.clock.NewTimer(s.options.DrainTimeout)
	s.stops.Go(func() {
		defer timeout.Stop()
		select {
		case <-task.Done():
		case <-timeout.C():
			task.Cancel(run.ErrStopped)
			<-task.Done()
		}
		signal(s.ended)
	})
}

// tidy replaces pipelines that have ended: by their next specification, or by
// nobody, and then ownership is given up. It tells whether to beat at once.
func (s *Supervisor) tidy(ctx, work context.Context) (beat bool) {
	var released []*slot
	s.mu.Lock()
	for id, one := range s.slots {
		if !one.finished() {
			continue
		}
		if err := one.task.Wait(); err != nil && !one.stopping {
			s.log.Info("pipeline has ended here", "pipeline", one.spec.Name, "reason", err)
		}
		delete(s.slots, id)
		if one.next != nil {
			s.start(work, *one.next)
			continue
		}
		released = append(released, one)
	}
	s.mu.Unlock()
	for _, one := range released {
		if err := s.registry.Release(ctx, one.spec.ID, one.spec.Fence); err != nil {
			s.log.Debug("ownership was not given up", "pipeline", one.spec.Name, "error", err)
		}
	}
	return len(released) > 0
}

// abandon cancels everything: no heartbeat has succeeded for the lease time,
// so another relay may own the pipelines by now. Its saves would fence ours
// off, but nothing would keep us from sending beside it.
func (s *Supervisor) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.slots {
		if !one.stopping {
			s.log.Warn("pipeline stops: its ownership could not be renewed", "pipeline", one.spec.Name)
		}
		one.next = nil
		one.stopping = true
		one.task.Cancel(run.ErrStopped)
	}
}

// kickAll asks pipelines to look for dead letters to retry. It comes after
// reconcile, and leaves out those that are ending: somebody who mends a
// configuration and then asks for a retry must not have the letters tried, and
// put back, by the old configuration. The new one looks when it starts.
func (s *Supervisor) kickAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.slots {
		if !one.stopping {
			signal(one.kick)
		}
	}
}

// report stores what is new about the pipelines.
func (s *Supervisor) report(ctx context.Context, counters bool) {
	s.mu.Lock()
	var reports []pipeline.Report
	var reported []*status
	for _, one := range s.slots {
		if report, fresh := one.status.take(counters); fresh {
			reports = append(reports, report)
			reported = append(reported, one.status)
		}
	}
	s.mu.Unlock()
	if len(reports) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.LeaseTime/2)
	defer cancel()
	if err := s.registry.Report(ctx, reports); err != nil {
		s.log.Debug("state was not reported", "error", err)
		for _, one := range reported {
			one.again()
		}
	}
}

// drain ends all pipelines: softly, and after the drain timeout hard. The
// registry learns it last, so that nobody takes over what is still being finished.
func (s *Supervisor) drain(work context.Context, cancel context.CancelCauseFunc) error {
	s.mu.Lock()
	var tasks []*run.Task
	for _, one := range s.slots {
		one.stopping = true
		one.task.Drain()
		tasks = append(tasks, one.task)
	}
	s.mu.Unlock()
	timeout := s.clock.NewTimer(s.options.DrainTimeout)
	defer timeout.Stop()
	for _, task := range tasks {
		select {
		case <-task.Done():
		case <-timeout.C():
			cancel(run.ErrStopped)
		case <-work.Done():
		}
		<-task.Done()
	}
	s.stops.Wait()
	ctx, done := closing(work)
	defer done()
	s.report(ctx, true)
	if err := s.registry.Leave(ctx); err != nil {
		s.log.Debug("ownership was not given up", "error", err)
	}
	return nil
}

// Pipelines returns what runs here, in no order.
func (s *Supervisor) Pipelines() []Pipeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	pipelines := make([]Pipeline, 0, len(s.slots))
	for _, one := range s.slots {
		pipelines = append(pipelines, Pipeline{Spec: one.spec, Report: one.status.snapshot()})
	}
	return pipelines
}

// NotReady says in words why this relay is not ready, or "".
func (s *Supervisor) NotReady() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.beaten:
		return ""
	case s.silent != "":
		return s.silent
	}
	return "the relay has not registered with the database yet"
}
