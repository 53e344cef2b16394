package retry

import (
	"sync"
	"time"
)

// Breaker opens after Threshold failures in a row and stays open for a while.
// After that one trial is let through: a success closes it, a failure opens it
// again at once. It only ever says how long to wait.
type Breaker struct {
	clock     Clock
	threshold int
	open      time.Duration

	mu       sync.Mutex
	failures int
	until    time.Time
}

// NewBreaker returns a closed breaker; nil, which never opens, when threshold is 0.
func NewBreaker(threshold int, open time.Duration, clock Clock) *Breaker {
	if threshold <= 0 || open <= 0 {
		return nil
	}
	return &Breaker{clock: clock, threshold: threshold, open: open}
}

// Failure counts a failure and returns how long to wait before the next trial;
// 0 while the circuit is closed.
func (b *Breaker) Failure() time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	if b.failures < b.threshold {
		return 0
	}
	b.until = b.clock.Now().Add(b.open)
	return b.open
}

// Success closes the circuit.
func (b *Breaker) Success() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.until = 0, time.Time{}
}

// Circuit is the state of a breaker.
type Circuit string

// The states.
const (
	// Closed: everything passes.
	Closed Circuit = "closed"
	// Open: nothing is tried.
	Open Circuit = "open"
	// HalfOpen: the next trial decides.
	HalfOpen Circuit = "half_open"
)

// State returns the state, and how many failures in a row led to it; "" for a
// breaker that never opens.
func (b *Breaker) State() (state Circuit, failures int) {
	if b == nil {
		return "", 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return Closed, b.failures
	case b.clock.Now().Before(b.until):
		return Open, b.failures
	}
	return HalfOpen, b.failures
}

// Remaining returns how long the circuit stays open; 0 when a trial may be made.
func (b *Breaker) Remaining() time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.until.Sub(b.clock.Now()))
}
