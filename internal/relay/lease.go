package relay

import (
	"errors"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// errLeaseLost is why work is dropped when no heartbeat succeeds for too long.
var errLeaseLost = errors.New("no heartbeat reached the database in time: other relays may own the pipelines now")

// Guarded is a second power of a Sink: it asks owns right before everything
// that it puts on the wire, and ends what it does with the answer. The engine
// asks before each Send too; a sink that writes event by event, or in Wait,
// narrows what a relay that slept in the midst of it sends on waking up.
//
// Without it: a relay is stopped while it sends a batch, another takes over
// and the pipeline is pointed elsewhere; the first wakes and sends the rest.
type Guarded interface {
	Guard(owns func() error)
}

// lease is how long this relay may act for its pipelines without word from
// the database. It is asked, not awaited: timers of a process that was stopped
// fire when it wakes, beside the goroutines that are about to send.
type lease struct {
	clock  retry.Clock
	length time.Duration

	mu      sync.Mutex
	renewed time.Time
}

// newLease returns a lease that ends a little before the database lets others
// take over, and that nobody renewed yet.
func newLease(clock retry.Clock, leaseTime time.Duration) *lease {
	return &lease{clock: clock, length: leaseTime * 7 / 8}
}

// renew counts the lease from the begin of a heartbeat that succeeded. It says
// whether the one before had ended by then, so that others may have taken over.
func (l *lease) renew(begun time.Time) (lapsed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lapsed = !l.renewed.IsZero() && elapsed(l.renewed, begun) >= l.length
	l.renewed = begun
	return lapsed
}

// left is how much of the lease remains.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewed.IsZero() {
		return 0
	}
	return l.length - elapsed(l.renewed, l.clock.Now())
}

// check fails once the lease has ended.
func (l *lease) check() error {
	if l.left() <= 0 && !fault.Mutant(fault.NoFence) {
		return &sideError{side: database, err: errLeaseLost}
	}
	return nil
}

// elapsed is the longer of what both clocks say: the monotonic one may stand
// still while the machine sleeps, the other one is set back at times.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}
