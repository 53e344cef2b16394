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
	renewed moment // zero when nobody has
}

// moment is a point in time on every clock that there is.
type moment struct {
	at    time.Time
	boot  time.Duration
	known bool // boot
}

// sleepless is a second power of a clock: it counts while the machine sleeps.
type sleepless interface {
	SinceBoot() (d time.Duration, known bool)
}

// now is the present moment.
func now(clock retry.Clock) moment {
	m := moment{at: clock.Now()}
	if c, ok := clock.(sleepless); ok {
		m.boot, m.known = c.SinceBoot()
	}
	return m
}

// newLease returns a lease that ends a little before the database lets others
// take over, and that nobody renewed yet.
func newLease(clock retry.Clock, leaseTime time.Duration) *lease {
	return &lease{clock: clock, length: leaseTime * 7 / 8}
}

// renew counts the lease from the begin of a heartbeat that succeeded. It says
// whether the one before had ended by then, so that others may have taken over.
func (l *lease) renew(begun moment) (lapsed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lapsed = !l.renewed.at.IsZero() && elapsed(l.renewed, begun) >= l.length
	l.renewed = begun
	return lapsed
}

// left is how much of the lease remains.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewed.at.IsZero() {
		return 0
	}
	return l.length - elapsed(l.renewed, now(l.clock))
}

// check fails once the lease has ended.
func (l *lease) check() error {
	if l.left() <= 0 && !fault.Mutant(fault.NoFence) {
		return &sideError{side: database, err: errLeaseLost}
	}
	return nil
}

// elapsed is the longer of what the clocks say, for the monotonic one may stand
// still while the machine sleeps. The wall clock, which somebody may set, is
// asked only where nothing else counts a sleep.
func elapsed(from, to moment) time.Duration {
	awake := to.at.Sub(from.at)
	if from.known && to.known {
		return max(awake, to.boot-from.boot)
	}
	return max(awake, to.at.Round(0).Sub(from.at.Round(0)))
}
