// Package retry waits: backoff with jitter, a rate limit, a circuit breaker,
// all on a clock that the caller gives. It refuses to know what is tried, or
// which errors are worth a retry.
package retry

import (
	"context"
	"time"
)

// Clock tells the time and makes timers.
type Clock interface {
	Now() time.Time
	NewTimer(d time.Duration) Timer
}

// Timer fires once.
type Timer interface {
	C() <-chan time.Time
	Stop() bool
}

// System is the machine's own clock.
type System struct{}

// Now returns the current time.
func (System) Now() time.Time { return time.Now() }

// SinceBoot is the time since the machine was started, its sleep included, and
// nobody sets it: the monotonic clock may stand still in a sleep, and the wall
// clock jumps. known is false where the system has no such clock.
func (System) SinceBoot() (d time.Duration, known bool) { return sinceBoot() }

// NewTimer returns a timer that fires after d.
func (System) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }

type systemTimer struct{ timer *time.Timer }

func (t systemTimer) C() <-chan time.Time { return t.timer.C }
func (t systemTimer) Stop() bool          { return t.timer.Stop() }

// Sleep waits for d or until ctx ends; then it returns the cause.
func Sleep(ctx context.Context, clock Clock, d time.Duration) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d <= 0 {
		return nil
	}
	timer := clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
