package retry

import (
	"context"
	"sync"
	"time"
)

// Limiter is a token bucket: PerSecond events on average, Burst at once after
// a quiet time. More than Burst may be taken at once; the wait is then paid in
// advance by who comes next, so the average holds.
type Limiter struct {
	clock     Clock
	perSecond float64
	burst     float64

	mu     sync.Mutex
	tokens float64
	at     time.Time
	// held is until when somebody waits, or waited last.
	held time.Time
}

// NewLimiter returns a limiter, full; nil when perSecond is 0, which means no limit.
func NewLimiter(perSecond float64, burst int, clock Clock) *Limiter {
	if perSecond <= 0 {
		return nil
	}
	full := float64(max(burst, 1))
	return &Limiter{clock: clock, perSecond: perSecond, burst: full, tokens: full, at: clock.Now()}
}

// Burst returns how many events may go at once; 0 for no limit.
func (l *Limiter) Burst() int {
	if l == nil {
		return 0
	}
	return int(l.burst)
}

// Wait takes n tokens and waits until they have been earned, or until ctx ends.
func (l *Limiter) Wait(ctx context.Context, n int) error {
	if l == nil {
		return nil
	}
	return Sleep(ctx, l.clock, l.take(n))
}

func (l *Limiter) take(n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	l.tokens = min(l.burst, l.tokens+now.Sub(l.at).Seconds()*l.perSecond)
	l.at = now
	l.tokens -= float64(n)
	if l.tokens >= 0 {
		return 0
	}
	wait := time.Duration(-l.tokens / l.perSecond * float64(time.Second))
	l.held = now.Add(wait)
	return wait
}

// PerSecond returns the limit; 0 for none.
func (l *Limiter) PerSecond() float64 {
	if l == nil {
		return 0
	}
	return l.perSecond
}

// heldFor is how long after a wait the limiter still counts as holding events
// back: between two waits events are sent, and that is no end of it.
const heldFor = 2 * time.Second

// Holds tells whether events are held back, or were a moment ago.
func (l *Limiter) Holds() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.held.IsZero() && l.clock.Now().Before(l.held.Add(heldFor))
}
