package push

import (
	"time"

	"github.com/pg-tide/pg-tide/internal/retry"
)

// circuit says how much may be sent to the service now. It tells trouble of
// the service from that of single messages: one message that is refused again
// and again is a failure once, and never opens the circuit by itself.
type circuit struct {
	clock   retry.Clock
	waiting retry.Backoff
	breaker *retry.Breaker
	open    time.Duration

	// failures counts those of the service in a row, since when.
	failures int
	since    time.Time
	// blamed are the messages whose doubtful failures were counted.
	blamed map[int64]bool
	// tripped says that the circuit opened and nothing was taken since.
	tripped bool
	until   time.Time
}

func newCircuit(o Options, clock retry.Clock) *circuit {
	return &circuit{
		clock:   clock,
		waiting: o.Waiting,
		breaker: retry.NewBreaker(o.Breaker.FailureThreshold, o.Breaker.Open, clock),
		open:    o.Breaker.Open,
		blamed:  map[int64]bool{},
	}
}

// success says that the service answered for a message, and returns whether
// that ends a trouble.
func (c *circuit) success() bool {
	troubled := c.tripped || c.failures > 0
	c.breaker.Success()
	c.failures, c.tripped, c.until = 0, false, time.Time{}
	clear(c.blamed)
	return troubled
}

// failed counts a failure of the service, which asked to be left alone for so
// long. It returns whether the circuit is open by now.
func (c *circuit) failed(after time.Duration) bool {
	if c.failures == 0 {
		c.since = c.clock.Now()
	}
	c.failures++
	return c.pause(max(after, c.waiting.After(c.failures)))
}

// doubtful counts a failure that may be the message's own.
func (c *circuit) doubtful(id int64) bool {
	if c.blamed[id] {
		return c.tripped
	}
	if len(c.blamed) == 0 && c.failures == 0 {
		c.since = c.clock.Now()
	}
	c.blamed[id] = true
	return c.pause(0)
}

func (c *circuit) pause(least time.Duration) bool {
	wait := c.breaker.Failure()
	c.tripped = c.tripped || wait > 0
	if until := c.clock.Now().Add(max(wait, least)); until.After(c.until) && max(wait, least) > 0 {
		c.until = until
	}
	return c.tripped
}

// left returns for how long nothing may be sent.
func (c *circuit) left() time.Duration { return max(0, c.until.Sub(c.clock.Now())) }

// allowed returns how many requests may be out: one, after trouble, to see
// whether it is over.
func (c *circuit) allowed(most int) int {
	switch {
	case c.left() > 0:
		return 0
	case c.tripped || c.failures > 0:
		return 1
	}
	return most
}
