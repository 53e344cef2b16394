package catalog

import (
	"context"
	"sync"
	"time"
)

// pollPause is between two looks at the sequence where publishers do not
// notify, and pollLimit between two looks at a quiet outbox all the same: an
// id may be drawn long before its event is committed.
const (
	pollPause = 20 * time.Millisecond
	pollLimit = time.Second
)

// drawn is the last id drawn for any outbox, asked for once for all readers
// of the relay.
type drawn struct {
	mu   sync.Mutex
	id   int64
	at   time.Time
	know bool
}

func (g *Gate) drawnID(ctx context.Context) (id int64, ok bool) {
	d := &g.drawn
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) < pollPause/2 {
		return d.id, d.know
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	err := g.waker.catalog.pool.QueryRow(ctx, outboxDrawnSQL).Scan(&d.id)
	d.at, d.know = time.Now(), err == nil
	return d.id, d.know
}

// poll waits where nobody notifies: with short pauses for a while, then until
// somebody draws an id.
func (n *Nap) poll(ctx context.Context) error {
	if time.Since(n.since) < longAfter {
		return n.rest(ctx, briefPause)
	}
	seen, first := n.drawn, n.drawn == 0
	var ok bool
	if n.drawn, ok = n.gate.drawnID(ctx); !ok {
		return n.rest(ctx, longPause)
	}
	if first {
		return ctx.Err() // whoever drew before this is found by a look now
	}
	for limit := time.Now().Add(pollLimit); n.drawn == seen && time.Now().Before(limit); {
		if woken, err := n.pauseOrWake(ctx, pollPause); err != nil || woken {
			return err
		}
		if n.drawn, ok = n.gate.drawnID(ctx); !ok {
			return ctx.Err()
		}
	}
	if n.drawn != seen {
		n.since, n.pause = time.Now(), firstPause
	}
	return ctx.Err()
}

// pauseOrWake pauses, and says whether it was cut short by a wake-up.
func (n *Nap) pauseOrWake(ctx context.Context, d time.Duration) (woken bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-n.wake:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
