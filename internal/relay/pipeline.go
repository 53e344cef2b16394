package relay

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/run"
)

// steady is how long a session must have lasted for its failure to be a new
// trouble, and not the same again.
const steady = 10 * time.Second

// closeTimeout bounds the end of a session.
const closeTimeout = 2 * time.Second

// worker runs one pipeline: session after session until it is stopped. What a
// session holds in memory ends with it.
type worker struct {
	spec    pipeline.Spec
	builder Builder
	options Options
	clock   retry.Clock
	log     *slog.Logger
	status  *status
	// kick asks for a look at the dead letters; one signal is kept.
	kick chan struct{}

	plan    Plan
	built   bool
	limiter *retry.Limiter
	breaker *retry.Breaker

	// failures counts sessions that failed in a row, and since is when that began.
	failures int
	since    time.Time

	// mu guards what the stages of a session share and what outlives it.
	mu sync.Mutex
	// attempts counts how often the far end refused an event, by event id.
	attempts map[string]int
	// isolated is the id of an event that blocks. Until it has passed, events
	// are read one at a time: those before it are then saved, and not sent
	// again and again.
	isolated string
}

// run is the pipeline's loop, as run.Work: no new work after intake, nothing after work.
func (w *worker) run(intake, work context.Context) error {
	for {
		began := w.clock.Now()
		err := run.Protect(func() error { return w.session(intake, work) })
		if intake.Err() != nil || work.Err() != nil {
			w.status.set(pipeline.StateStopped, "")
			return nil
		}
		if err == nil {
			err = errors.New("the session ended without an error")
		}
		if w.clock.Now().Sub(began) > steady {
			w.failures = 0
		}
		if w.failures++; w.failures == 1 {
			w.since = w.clock.Now()
		}
		next := w.judge(err)
		w.tell(next, err)
		if next.end {
			return err
		}
		if retry.Sleep(intake, w.clock, next.wait) != nil {
			w.status.set(pipeline.StateStopped, "")
			return nil
		}
	}
}

// tell shows and logs what happened; the same again is not logged again.
func (w *worker) tell(next outcome, err error) {
	w.status.failed(err)
	if !w.status.set(next.state, next.reason) {
		return
	}
	var panicked *run.PanicError
	if errors.As(err, &panicked) {
		w.log.Error("pipeline panicked", "error", err, "stack", string(panicked.Stack))
		return
	}
	if w.failures <= 1 || next.state != pipeline.StateWaiting {
		w.log.Warn("pipeline is "+string(next.state), "reason", next.reason)
	}
}

// session builds the plan if there is none yet, and runs it until something fails.
func (w *worker) session(intake, work context.Context) error {
	if !w.built {
		plan, err := w.builder.Build(intake, w.spec)
		if err != nil {
			return err
		}
		w.plan, w.built = plan, true
		w.limiter = retry.NewLimiter(plan.Limits.RateLimit.PerSecond, plan.Limits.RateLimit.Burst, w.clock)
		w.breaker = retry.NewBreaker(plan.Limits.CircuitBreaker.FailureThreshold, plan.Limits.CircuitBreaker.Open, w.clock)
	}
	var err error
	if w.spec.Direction == pipeline.Forward {
		err = w.forward(intake, work)
	} else {
		err = w.reverse(intake, work)
	}
	if verdict, _ := delivery.VerdictOf(err); verdict == delivery.VerdictMisconfigured {
		w.built = false // a secret may have been mended: resolve it again
	}
	return err
}

// up is called once both ends are open. A blocked pipeline stays blocked until
// the event has passed.
func (w *worker) up() {
	w.mu.Lock()
	isolated := w.isolated
	w.mu.Unlock()
	if isolated == "" && w.status.set(pipeline.StateRunning, "") {
		w.log.Info("pipeline is running")
	}
}

// progress is called when something became durable at the far end.
func (w *worker) progress() {
	w.failures = 0
	w.breaker.Success()
}

// limit is the number of events to read at once.
func (w *worker) limit() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isolated != "" {
		return 1
	}
	return max(w.plan.Limits.BatchSize, 1)
}

// block notes the event that holds the pipeline.
func (w *worker) block(m *message.Message, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isolated = m.EventID
	return blocked(m, err)
}

// passed ends the reading of one event at a time if the blocked one is among them.
func (w *worker) passed(messages []message.Message) {
	w.mu.Lock()
	found := w.isolated != "" && slices.ContainsFunc(messages, func(m message.Message) bool { return m.EventID == w.isolated })
	if found {
		w.isolated = ""
	}
	w.mu.Unlock()
	if found {
		w.up()
	}
}

// refused counts one more refusal of an event by the far end, and tells
// whether that was the last attempt.
func (w *worker) refused(eventID string) (last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.attempts == nil {
		w.attempts = map[string]int{}
	}
	w.attempts[eventID]++
	return w.attempts[eventID] >= max(w.plan.Limits.MaxAttempts, 1)
}

// taken forgets refusals of events that were taken.
func (w *worker) taken(batch []prepared) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range batch {
		if len(w.attempts) == 0 {
			return
		}
		delete(w.attempts, batch[i].original.EventID)
	}
}

// letter makes a dead letter of an event.
func (w *worker) letter(m *message.Message, err error) message.DeadLetter {
	w.mu.Lock()
	defer w.mu.Unlock()
	attempts := max(w.attempts[m.EventID], 1)
	delete(w.attempts, m.EventID)
	return message.DeadLetter{Message: *m, Error: err.Error(), Attempts: attempts}
}

// closing returns a context for what has to be done although the session's has ended.
func closing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
}

// closeEnd closes an end of a session; failing to is worth a line, no more.
func (w *worker) closeEnd(ctx context.Context, what string, end any) {
	closer, ok := end.(Closer)
	if !ok {
		return
	}
	ctx, cancel := closing(ctx)
	defer cancel()
	if err := closer.Close(ctx); err != nil {
		w.log.Debug("an end did not close cleanly", "end", what, "error", err)
	}
}

// until returns a context that ends with ctx or with the intake.
func until(ctx, intake context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(intake, func() { cancel(context.Cause(intake)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// give sends to a channel unless ctx ends first.
func give[T any](ctx context.Context, to chan<- T, value T) error {
	select {
	case to <- value:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
