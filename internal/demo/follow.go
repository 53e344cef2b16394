package demo

import (
	"fmt"
	"sync"
	"time"
)

// followPause is how long the story of one event stays before the next.
const followPause = 3 * time.Second

// followPatience is how long an event may be on its way before another one
// is followed instead; longer than the payment service is away.
const followPatience = 20 * time.Second

// passage is when an event passed each place after its publisher.
type passage struct {
	atBroker, received, marked time.Time
}

// followed is the way of one event through the bus.
type followed struct {
	event
	passage
	publishing time.Time
}

// follower picks an event now and then and notes when it passes each place.
type follower struct {
	bus     string // what people call it
	mu      sync.Mutex
	current *followed
	// early holds passages of events whose publisher has not yet told that
	// they are committed: the bus can be faster than the answer to a commit.
	early map[string]passage
}

func newFollower(bus string) *follower { return &follower{bus: bus, early: map[string]passage{}} }

// offer proposes a committed event; it is taken when the last one has arrived
// and been looked at.
func (f *follower) offer(e event, publishing time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.current; c != nil {
		busy := c.marked.IsZero() && time.Since(c.publishing) < followPatience
		if busy || time.Since(c.marked) < followPause {
			return
		}
	}
	f.current = &followed{event: e, publishing: publishing, passage: f.early[e.id]}
}

// pass notes that an event was seen somewhere.
func (f *follower) pass(id string, note func(*passage)) {
	const remembered = 1000
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil && f.current.id == id {
		note(&f.current.passage)
		return
	}
	if len(f.early) >= remembered {
		clear(f.early)
	}
	p := f.early[id]
	note(&p)
	f.early[id] = p
}

// passBroker notes that an event was seen at the broker.
func (f *follower) passBroker(id string) {
	now := time.Now()
	f.pass(id, func(p *passage) {
		if p.atBroker.IsZero() {
			p.atBroker = now
		}
	})
}

// passWorker notes that an event was processed.
func (f *follower) passWorker(id string, received, marked time.Time) {
	f.pass(id, func(p *passage) { p.received, p.marked = received, marked })
}

// story tells the way so far, in two lines; none before the first event.
func (f *follower) story() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current == nil {
		return nil
	}
	c := f.current
	way := "outbox_publish 0"
	for _, step := range []struct {
		name string
		at   time.Time
	}{
		{"commit", c.committed}, {f.bus, c.atBroker}, {"payment_triggers", c.received}, {"inbox_mark_processed", c.marked},
	} {
		if step.at.IsZero() {
			way += " > " + step.name + " …"
			break
		}
		way += fmt.Sprintf(" > %s %s", step.name, milliseconds(step.at.Sub(c.publishing)))
	}
	return []string{
		fmt.Sprintf("one event: %s %s, id %s", c.eventType, c.key, c.id),
		way + " ms",
	}
}

// arrived says whether the story has an end to tell.
func (f *follower) arrived() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current != nil && !f.current.marked.IsZero()
}

// milliseconds is exact enough to read, and never negative: clocks of two
// processes may differ by a little.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f", max(0, float64(d.Microseconds())/1000))
}
