package relay

import (
	"fmt"

	"github.com/pg-tide/pg-tide/internal/message"
)

// together says that two neighbours are of one transaction, which goes out
// whole or not at all.
func together(a, b *item) bool {
	t := a.event.Transaction
	return t != nil && t == b.event.Transaction && !t.Parted
}

// cut returns where a part of the items ends that begins at from and has most
// of them, or as many more as its last transaction has.
func cut(items []item, from, most int) int {
	end := min(from+most, len(items))
	for end > from && end < len(items) && together(&items[end-1], &items[end]) {
		end++
	}
	return end
}

// headOf returns where the transaction of an item begins.
func headOf(items []item, at int) int {
	for at > 0 && together(&items[at-1], &items[at]) {
		at--
	}
	return at
}

// refuseWhole refuses all events of a transaction of which one was refused. It
// says nothing of single events.
func refuseWhole(items []item) {
	var refused map[*message.Transaction]*item
	for i := range items {
		it := &items[i]
		if t := it.event.Transaction; it.err != nil && t != nil && !t.Parted && refused[t] == nil {
			if refused == nil {
				refused = map[*message.Transaction]*item{}
			}
			refused[t] = it
		}
	}
	if refused == nil {
		return
	}
	for i := range items {
		it := &items[i]
		if first := refused[it.event.Transaction]; first != nil && it.err == nil {
			it.refuseForGood(fmt.Errorf("event %s of the same transaction was refused, and it goes whole or not at all: %w", first.event.EventID, first.err))
		}
	}
}

// stopAt ends what is gathered from a backlog in front of an event that is
// refused, and of its transaction, some of which may be in the parcel already.
func (l *lane) stopAt(b *backlog, first []item, at int, p *parcel) []item {
	head := headOf(first, at)
	refuseWhole(first[head:])
	l.mu.Lock()
	copy(b.queue[head:], first[head:])
	l.mu.Unlock()
	if head == at {
		return first[:at]
	}
	return p.cutBefore(first[head].number, first)
}

// whole returns the head of a backlog and the rest of its transaction.
func (l *lane) whole(b *backlog) []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]item(nil), b.queue[:cut(b.queue, 0, 1)]...)
}
