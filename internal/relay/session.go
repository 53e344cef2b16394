package relay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// memory is what a pipeline remembers from one session to the next. It holds
// no event and no position: those are read again.
type memory struct {
	limiter *retry.Limiter
	breaker *retry.Breaker
	// farEnd is Plan.FarEnd.
	farEnd string
	// steps counts what became durable.
	steps atomic.Int64

	mu sync.Mutex
	// refused counts how often the sink refused an event, by event id.
	refused map[string]refusal
}

type refusal struct {
	attempts int
	err      error
}

func newMemory(plan *Plan, clock retry.Clock) *memory {
	l := plan.Limits
	return &memory{
		limiter: retry.NewLimiter(l.RateLimit.PerSecond, l.RateLimit.Burst, clock),
		breaker: retry.NewBreaker(l.CircuitBreaker.FailureThreshold, l.CircuitBreaker.Open, clock),
		farEnd:  plan.FarEnd,
		refused: map[string]refusal{},
	}
}

// nameOf names a side in the words of a reason.
func (m *memory) nameOf(at side) string {
	if at == farEnd && m != nil && m.farEnd != "" {
		return m.farEnd
	}
	return string(at)
}

// refuse counts one more refusal of an event.
func (m *memory) refuse(eventID string, err error) refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.refused[eventID]
	r.attempts++
	r.err = err
	m.refused[eventID] = r
	return r
}

func (m *memory) refusalOf(eventID string) (refusal, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, found := m.refused[eventID]
	return r, found
}

// forget drops the refusals of events that are dealt with.
func (m *memory) forget(items []item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range items {
		if len(m.refused) == 0 {
			return
		}
		delete(m.refused, items[i].event.EventID)
	}
}

// session is what both directions share while connected.
type session struct {
	plan    Plan
	limits  pipeline.Limits
	options *Options
	clock   retry.Clock
	memory  *memory
	health  *health
	budget  *budget
	// letters wakes the retry of dead letters.
	letters <-chan struct{}
	// lettersSeen says that there were letters since they were last looked for.
	lettersSeen *atomic.Bool
	lease       *lease
	// inserted wakes the push of the inbox.
	inserted chan<- struct{}
}

func (s *session) call(ctx context.Context, at side, doing string, f func(ctx context.Context) error) error {
	return call(ctx, s.options.CallTimeout, at, doing, f)
}

// change applies the plan's changes to a copy of m.
func (s *session) change(m message.Message) (changed message.Message, keep bool, err error) {
	for _, c := range s.plan.Changes {
		if keep, err = c.Apply(&m); err != nil || !keep {
			return m, false, err
		}
	}
	return m, true, nil
}

// addLetters makes letters durable and counts them.
func (s *session) addLetters(ctx context.Context, letters []message.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	// Behind the commit, whatever became of it: a look that is under way clears
	// this before it asks, and would not see letters that are added after that.
	defer s.lettersSeen.Store(true)
	err := s.call(ctx, database, "add dead letters", func(ctx context.Context) error {
		return s.plan.DeadLetters.Add(ctx, letters)
	})
	if err == nil {
		s.health.count(0, 0, len(letters))
	}
	return err
}

// progress says that something durable happened.
func (s *session) progress() {
	s.memory.steps.Add(1)
	s.memory.breaker.Success()
	s.health.well()
}

// settle says that the session works although nothing passes, once it lived
// for a while after failures. If something is on its way by then, only its
// arrival says so: a far end that takes what it is sent and acknowledges none
// of it, as one whose disk is full may, would look well between two failures.
func (s *session) settle(ctx context.Context, idle func() bool) error {
	if s.health.troubled() {
		if err := retry.Sleep(ctx, s.clock, s.options.SettledAfter); err != nil {
			return nil //nolint:nilerr // the session ended before it settled; its own error says why
		}
		if !idle() {
			return nil
		}
		s.memory.breaker.Success()
	}
	s.health.well()
	return nil
}

// close ends connections even when the session was cancelled.
func (s *session) close(ctx context.Context, what ...any) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.CloseTimeout)
	defer cancel()
	for _, w := range what {
		if c, closes := w.(Closer); closes {
			if err := c.Close(ctx); err != nil {
				s.health.logger.DebugContext(ctx, "close after a session", "error", err)
			}
		}
	}
}

// partialOf returns the partial failure in err, if it names only indices below n.
func partialOf(err error, n int) (*delivery.Partial, bool) {
	var partial *delivery.Partial
	if !errors.As(err, &partial) {
		return nil, false
	}
	indices := partial.Indices()
	return partial, len(indices) == 0 || slices.Max(indices) < n && indices[0] >= 0
}
