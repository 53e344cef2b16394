package catalog

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Gate lets the readers of a relay sleep until somebody publishes, without a
// notification for each event: a relay that is about to sleep takes an
// exclusive advisory lock on its outbox. Publishers try it shared; failure
// tells them that somebody sleeps and must be notified. The relay gets the
// lock only while no publisher holds it shared, that is, when no event is
// about to be committed behind its back; after it has the lock it looks once
// more, and may then sleep.
//
// A wake-up is a hint. Whatever goes wrong here costs time, never events.
type Gate struct {
	waker *waker

	mu sync.Mutex
	// notified says that publishers notify. They do not where transactions
	// can be prepared: one that has notified could not be.
	notified bool
	outboxes map[string]*outboxGate
	drawn    drawn
}

// outboxGate is shared by the relay's sleepers on one outbox.
type outboxGate struct {
	// wake is closed, and replaced, when there may be something to read.
	wake chan struct{}
	// locked says that this relay holds the lock; armed counts who relies on it.
	locked   bool
	lockedAt time.Time
	armed    int
	// epoch grows when the connection and its locks are lost, so that who armed
	// before does not give back what others have taken since.
	epoch int
	// turn serialises attempts to lock and unlock.
	turn sync.Mutex
}

// state is what an attempt to lock found.
type state int

const (
	// lockUnavailable: there is no connection to lock or listen on.
	lockUnavailable state = iota
	// lockHeld: this relay has the lock.
	lockHeld
	// lockElsewhere: another relay sleeps, so publishers notify all the same.
	lockElsewhere
	// publisherOpen: a publisher's transaction is about to end.
	publisherOpen
)

// Pauses of a reader that may not sleep, and of one that does.
const (
	firstPause = time.Millisecond
	// lingering is how many pauses pass before the lock is tried. Under load
	// the next event comes earlier, and publishers never find the lock taken.
	lingering = 4
	// briefPause and longPause bound the pause while a publisher is open, at
	// first and after longAfter.
	briefPause = 25 * time.Millisecond
	longPause  = 100 * time.Millisecond
	longAfter  = 2 * time.Second
	// elsewherePause is between looks at a lock that another relay holds: it
	// may have been killed, and then nobody notifies.
	elsewherePause = time.Second
	// slowPoll is for notifications that were lost.
	slowPoll = 30 * time.Second
)

func newGate(w *waker) *Gate { return &Gate{waker: w, outboxes: map[string]*outboxGate{}} }

// Gate returns the gate that the readers of this relay share.
func (c *Catalog) Gate() *Gate { return c.waker.gate }

// Nap is one reader's way from an empty page to the next page. It is used by
// one goroutine, and Close ends it.
type Nap struct {
	gate    *Gate
	outbox  *outboxGate
	name    string
	since   time.Time
	pause   time.Duration
	lingers int
	state   state
	// wake is the channel taken when the reader armed, before its last look.
	wake  chan struct{}
	armed bool
	epoch int
	// drawn is the last id that the nap knows to be drawn, where it polls.
	drawn int64
}

// Nap begins a nap on an outbox.
func (g *Gate) Nap(outbox string) *Nap {
	g.mu.Lock()
	defer g.mu.Unlock()
	o := g.outboxes[outbox]
	if o == nil {
		o = &outboxGate{wake: make(chan struct{})}
		g.outboxes[outbox] = o
	}
	return &Nap{gate: g, outbox: o, name: outbox, since: time.Now(), pause: firstPause, wake: o.wake}
}

// Wait returns nil when it is worth looking again: at once after it has
// armed, for that look is what makes sleeping safe; else after a pause or
// when woken.
func (n *Nap) Wait(ctx context.Context) error {
	if n.armed {
		return n.sleep(ctx)
	}
	if n.lingers < lingering {
		n.lingers++
		return n.rest(ctx, briefPause)
	}
	n.gate.mu.Lock()
	n.wake = n.outbox.wake
	n.gate.mu.Unlock()
	n.arm()
	if n.armed {
		return ctx.Err()
	}
	switch {
	case n.state == lockUnavailable:
		return n.poll(ctx)
	case time.Since(n.since) > longAfter:
		return n.rest(ctx, longPause)
	}
	return n.rest(ctx, briefPause)
}

// sleep waits for a wake-up, or long enough to look without one.
func (n *Nap) sleep(ctx context.Context) error {
	limit := slowPoll
	if n.state == lockElsewhere {
		limit = min(n.pause, elsewherePause)
		n.pause *= 2
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-n.wake:
		n.disarm(true)
		n.pause, n.lingers, n.since = firstPause, 0, time.Now()
	case <-timer.C:
		if n.state == lockElsewhere {
			// The channel is kept: a wake-up since then must not be missed.
			n.arm()
			if n.state == lockElsewhere && !n.worthALook() {
				return n.sleep(ctx)
			}
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// worthALook says whether the reader has slept so long that it looks anyway.
func (n *Nap) worthALook() bool {
	if time.Since(n.since) < slowPoll {
		return false
	}
	n.since = time.Now()
	return true
}

// rest pauses, longer each time.
func (n *Nap) rest(ctx context.Context, atMost time.Duration) error {
	d := min(n.pause, atMost)
	n.pause = min(2*n.pause, longPause)
	if !pause(ctx, d) {
		return ctx.Err()
	}
	return nil
}

// Close ends the nap and gives the lock back if nobody else relies on it.
func (n *Nap) Close() {
	select {
	case <-n.wake:
		n.disarm(true)
	default:
		n.disarm(false)
	}
}

// disarm gives up relying on the lock. notified says that a publisher's
// notification is the reason, which every sleeping relay has had too;
// otherwise they must be told to look, since from now on nobody notifies.
func (n *Nap) disarm(notified bool) {
	if !n.armed {
		return
	}
	n.armed = false
	if n.state != lockHeld {
		return
	}
	o := n.outbox
	o.turn.Lock()
	defer o.turn.Unlock()
	n.gate.mu.Lock()
	if n.epoch != o.epoch {
		n.gate.mu.Unlock()
		return
	}
	o.armed--
	unlock := o.armed == 0
	if unlock {
		o.locked = false
	}
	// Who began to rely on this lock a moment ago looks again soon by itself.
	tell := !notified && time.Since(o.lockedAt) > elsewherePause
	n.gate.mu.Unlock()
	if unlock {
		n.gate.unlock(n.name, tell)
	}
}

// arm tries to rely on the lock. The channel that will wake n was taken before.
func (n *Nap) arm() {
	o, g := n.outbox, n.gate
	o.turn.Lock()
	defer o.turn.Unlock()
	n.state = g.lock(n.name, o)
	g.mu.Lock()
	defer g.mu.Unlock()
	n.epoch = o.epoch
	switch {
	case n.state == lockHeld && o.locked:
		o.armed++
		n.armed = true
	case n.state == lockHeld: // and lost again
		n.state, n.armed = lockUnavailable, false
	default:
		n.armed = n.state == lockElsewhere
	}
}

// lock tries the lock of an outbox; the caller has its turn.
func (g *Gate) lock(outbox string, o *outboxGate) state {
	g.mu.Lock()
	notified, locked := g.notified, o.locked
	g.mu.Unlock()
	switch {
	case !notified:
		return lockUnavailable
	case locked:
		return lockHeld
	}
	var got, shared bool
	ok := g.waker.do(func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, gateLockSQL, outbox).Scan(&got, &shared)
		if err == nil && got {
			// Here, before the connection can be found to be lost.
			g.mu.Lock()
			o.locked, o.lockedAt = true, time.Now()
			g.mu.Unlock()
		}
		return err
	})
	switch {
	case !ok:
		return lockUnavailable
	case got:
		return lockHeld
	case shared:
		return publisherOpen
	}
	return lockElsewhere
}

// unlock gives the lock back. The sleepers of other relays rely on it too, and
// are told unless they know.
func (g *Gate) unlock(outbox string, tell bool) {
	g.waker.do(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, gateUnlockSQL, outbox, tell)
		return err
	})
}

// wake wakes the sleepers on one outbox.
func (g *Gate) wake(outbox string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if o := g.outboxes[outbox]; o != nil {
		close(o.wake)
		o.wake = make(chan struct{})
	}
}

// wakeAll wakes everybody to look again and to try the lock.
func (g *Gate) wakeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.outboxes {
		close(o.wake)
		o.wake = make(chan struct{})
	}
}

// lostAll is called when the connection is gone and its locks with it.
func (g *Gate) lostAll() {
	g.mu.Lock()
	g.notified = false
	for _, o := range g.outboxes {
		o.locked = false
		o.armed = 0
		o.epoch++
	}
	g.mu.Unlock()
	g.wakeAll()
}

func (g *Gate) setNotified(notified bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notified = notified
}
