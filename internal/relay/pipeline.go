package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/run"
)

// runner works one pipeline: session after session, with the pauses between
// them. All retry policy of the relay is in this file.
type runner struct {
	spec    pipeline.Spec
	builder Builder
	options *Options
	clock   retry.Clock
	health  *health
	letters chan struct{}
	// lettersSeen says that there were letters since they were last looked for.
	lettersSeen *atomic.Bool
	lease       *lease
	// inserted wakes the push of the inbox.
	inserted chan struct{}
	// panicked keeps a stack from being logged more than once.
	panicked bool
}

func (s *Supervisor) newRunner(spec pipeline.Spec) *runner {
	return &runner{
		spec:        spec,
		builder:     s.builder,
		options:     &s.options,
		clock:       s.clock,
		health:      newHealth(spec, s.clock, s.logger, func() { signal(s.dirty) }),
		letters:     make(chan struct{}, 1),
		lettersSeen: &atomic.Bool{},
		lease:       s.lease,
		inserted:    make(chan struct{}, 1),
	}
}

// poke makes the pipeline look for dead letters to retry.
func (r *runner) poke() {
	select {
	case r.letters <- struct{}{}:
	default:
	}
}

// run works until intake is done or the pipeline is another relay's. Whatever
// else fails, it tries again.
func (r *runner) run(intake, work context.Context) error {
	defer r.health.become(pipeline.StateStopped, "")
	var (
		plan  *Plan
		known *memory
		push  pushing
	)
	defer push.end()
	for intake.Err() == nil {
		err := run.Protect(func() error {
			if plan == nil {
				built, err := r.builder.Build(work, r.spec)
				if err != nil {
					return err
				}
				plan = &built
				r.health.watch(plan.Source)
				push.begin(intake, work, r, plan.Pusher)
				if known == nil {
					known = newMemory(plan, r.clock)
					r.health.observe(known)
				}
			}
			return r.session(intake, work, plan, known)
		})
		if intake.Err() != nil {
			return nil
		}
		if isSuperseded(err) {
			return err
		}
		if err == nil {
			err = errors.New("the session ended for no reason")
		}
		pause := r.failed(err, known)
		if verdict, _ := delivery.VerdictOf(err); verdict == delivery.VerdictMisconfigured {
			push.end()
			plan = nil // a secret may have been mended meanwhile: build it again
		}
		if retry.Sleep(intake, r.clock, pause) != nil {
			return nil
		}
	}
	return nil
}

func (r *runner) session(intake, work context.Context, plan *Plan, known *memory) error {
	s := session{
		plan:        *plan,
		limits:      limitsOf(plan.Limits, r.options),
		options:     r.options,
		clock:       r.clock,
		memory:      known,
		health:      r.health,
		budget:      &budget{},
		letters:     r.letters,
		lettersSeen: r.lettersSeen,
		lease:       r.lease,
		inserted:    r.inserted,
	}
	r.health.begin()
	if circuit, failures := known.breaker.State(); circuit == retry.HalfOpen {
		r.health.become(pipeline.StateWaiting, fmt.Sprintf("circuit half open: trying once whether %s works again, because it failed %s in a row, last with: %s",
			known.nameOf(farEnd), times(failures), r.health.now().LastError))
	}
	if r.spec.Direction == pipeline.Reverse {
		return newReverse(s).run(intake, work)
	}
	return newForward(s).run(intake, work)
}

// failed reports what ended a session and returns how long to wait.
func (r *runner) failed(err error, known *memory) time.Duration {
	var (
		block  *blockedError
		panics *run.PanicError
	)
	failures, since := r.health.failed(err)
	verdict, after := delivery.VerdictOf(err)
	switch {
	case errors.As(err, &panics):
		if !r.panicked {
			r.panicked = true
			r.health.logger.Error("pipeline panicked", "error", panics, "stack", string(panics.Stack))
		}
		r.health.become(pipeline.StateWaiting, fmt.Sprintf("an internal error of pg-tide, please report it: %v", panics))
		return r.options.Waiting.After(failures)
	case errors.As(err, &block):
		r.health.become(pipeline.StateBlocked, fmt.Sprintf("%v; it is tried again, and everything waits behind it (on_error is \"block\")", block))
		return r.options.Mending.After(failures)
	case verdict == delivery.VerdictMisconfigured:
		r.health.become(pipeline.StateMisconfigured, err.Error())
		return max(after, r.options.Mending.After(failures))
	}
	reason := fmt.Sprintf("waiting for %s since %s: %v", known.nameOf(sideOf(err)), clockTime(since), err)
	pause := max(after, r.options.Waiting.After(failures))
	if open := r.open(err, known); open > 0 {
		_, inRow := known.breaker.State()
		reason = fmt.Sprintf("circuit open until %s, because %s failed %s in a row since %s, last with: %v",
			clockTime(r.clock.Now().Add(open)), known.nameOf(sideOf(err)), times(inRow), clockTime(since), err)
		pause = max(pause, open)
	}
	r.health.become(pipeline.StateWaiting, reason)
	return pause
}

// open counts a failure of the far end and returns how long its circuit is open.
func (r *runner) open(err error, known *memory) time.Duration {
	if known == nil || sideOf(err) != farEnd {
		return 0
	}
	return known.breaker.Failure()
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
