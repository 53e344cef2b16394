package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// memory is what a pipeline remembers from one session to the next. It holds
// no event and no position: those are read again.
type memory struct {
	limiter *retry.Limiter
	breaker *retry.Breaker

	mu sync.Mutex
	// refused counts how often the sink refused an event, by event id.
	refused map[string]refusal
	// before is how many events of its page came before the event that blocks
	// the pipeline; -1 when none does.
	before int
	// single counts the pages of one event that were read because of it.
	single int
}

type refusal struct {
	attempts int
	err      error
}

func newMemory(l pipeline.Limits, clock retry.Clock) *memory {
	return &memory{
		limiter: retry.NewLimiter(l.RateLimit.PerSecond, l.RateLimit.Burst, clock),
		breaker: retry.NewBreaker(l.CircuitBreaker.FailureThreshold, l.CircuitBreaker.Open, clock),
		refused: map[string]refusal{},
		before:  -1,
	}
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
func (m *memory) forget(messages []message.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range messages {
		if len(m.refused) == 0 {
			return
		}
		delete(m.refused, messages[i].EventID)
	}
}

// block remembers how many events of the page came before the one that blocks;
// -1 that it passed.
func (m *memory) block(before int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.single = before, 0
}

// readLimit returns how many events to read next. In front of an event that
// blocks, pages end right before it, so that what precedes it is saved and not
// sent again with each attempt at it.
func (m *memory) readLimit(usual int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.before < 0 {
		return usual
	}
	limit := max(1, min(m.before, usual))
	if m.before == 0 {
		// the event should have come by now; if it never does, read on as usual
		if m.single++; m.single > usual {
			m.before = -1
		}
		return limit
	}
	m.before -= limit
	return limit
}

// session is what both directions share while connected.
type session struct {
	plan    Plan
	limits  pipeline.Limits
	options *Options
	clock   retry.Clock
	memory  *memory
	health  *health
	holds   *holds
	// letters wakes the retry of dead letters.
	letters <-chan struct{}
	lease   *lease
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
	s.memory.breaker.Success()
	s.health.well()
}

// settle says that the session works although nothing passes, once it lived
// for a while after failures.
func (s *session) settle(ctx context.Context) error {
	if s.health.troubled() {
		if err := retry.Sleep(ctx, s.clock, s.options.SettledAfter); err != nil {
			return nil //nolint:nilerr // the session ended before it settled; its own error says why
		}
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

// holds knows which keys are parked behind a dead letter. One goroutine uses
// it; others may only mark it stale.
type holds struct {
	keys  map[string]bool
	stale atomic.Bool
}

func (h *holds) has(key string) bool {
	return key != "" && h.keys[key] && !fault.Mutant(fault.RetryOvertaken)
}

func (h *holds) add(key string) {
	if key != "" {
		h.keys[key] = true
	}
}

// readHolds asks which keys wait, when the policy cares.
func (s *session) readHolds(ctx context.Context) error {
	s.holds.stale.Store(false)
	s.holds.keys = map[string]bool{}
	if s.limits.OnError != pipeline.ParkKey {
		return nil
	}
	return s.call(ctx, database, "read the keys of dead letters", func(ctx context.Context) error {
		keys, err := s.plan.DeadLetters.Held(ctx)
		for _, key := range keys {
			s.holds.add(key)
		}
		return err
	})
}

// hold parks the key of an event that became a dead letter, if the policy says so.
func (s *session) hold(key string) {
	if s.limits.OnError == pipeline.ParkKey {
		s.holds.add(key)
	}
}

// parked is the error of an event that follows a dead letter of its key.
func parked(key string) error {
	return fmt.Errorf("key %q is parked: an earlier event of it waits as a dead letter; retry or discard that one too", key)
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
