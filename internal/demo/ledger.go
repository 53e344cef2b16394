package demo

import (
	"sync"
	"time"
)

// event is one that a service published, as the ledger knows it. It is
// recognised by its key and number, which travel in the payload, so that the
// comparison does not depend on the ids that are being tested.
type event struct {
	id        string
	outbox    string
	key       string
	seq       int64
	eventType string
	committed time.Time
}

// ledger knows what was committed, from the publisher's own mouth.
type ledger struct {
	mu         sync.Mutex
	events     []event
	byID       map[string]time.Time
	committed  map[string]int
	rolledBack map[string]int
}

func newLedger() *ledger {
	return &ledger{byID: map[string]time.Time{}, committed: map[string]int{}, rolledBack: map[string]int{}}
}

// commit records an event whose transaction has committed.
func (l *ledger) commit(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	l.byID[e.id] = e.committed
	l.committed[e.outbox]++
}

// rollBack counts an event that was published and taken back.
func (l *ledger) rollBack(outbox string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rolledBack[outbox]++
}

// committedAt says when the event of that id was committed.
func (l *ledger) committedAt(id string) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.byID[id]
	return at, ok
}

// counts of one outbox.
func (l *ledger) counts(outbox string) (committed, rolledBack int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committed[outbox], l.rolledBack[outbox]
}

// wanted returns the committed events that a hop must deliver.
func (l *ledger) wanted(by func(event) bool) []event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []event
	for _, e := range l.events {
		if by(e) {
			all = append(all, e)
		}
	}
	return all
}

// count is the number of events that wanted would return.
func (l *ledger) count(by func(event) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.events {
		if by(e) {
			n++
		}
	}
	return n
}
