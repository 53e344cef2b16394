package retry

import (
	"math"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait after the n-th failure in a row: Initial,
// doubled each time up to Max, then moved at random by up to Jitter of itself.
type Backoff struct {
	Initial time.Duration
	Max     time.Duration
	// Jitter is a fraction from 0 to 1: 0.2 spreads waits over 80 % to 100 %.
	// Downwards only, so that Max is kept.
	Jitter float64
	// Random returns a number in [0, 1); nil means math/rand.
	Random func() float64
}

// After returns the wait after failures in a row, at least 1.
func (b Backoff) After(failures int) time.Duration {
	if failures < 1 {
		failures = 1
	}
	wait := float64(b.Initial) * math.Pow(2, float64(failures-1))
	if wait > float64(b.Max) || math.IsInf(wait, 0) {
		wait = float64(b.Max)
	}
	random := b.Random
	if random == nil {
		random = rand.Float64
	}
	return time.Duration(wait * (1 - b.Jitter*random()))
}
