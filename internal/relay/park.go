package relay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// parkSome makes dead letters of events whose key is parked. It says whether
// there were any, or that there is no room for them.
func (l *lane) parkSome(ctx context.Context) (parked, full bool, err error) {
	l.mu.Lock()
	items := slices.Clone(l.parking[:min(len(l.parking), lettersAtOnce)])
	l.mu.Unlock()
	if len(items) == 0 {
		return false, false, nil
	}
	added, err := l.addItems(ctx, items)
	if err != nil || added == 0 {
		return false, added == 0, err
	}
	items = items[:added]
	l.mu.Lock()
	l.parking = l.parking[added:]
	l.mu.Unlock()
	l.memory.forget(items)
	l.settleItems(items)
	return true, false, nil
}

// addItems makes dead letters of as many of the events as there is room for,
// and returns how many.
func (l *lane) addItems(ctx context.Context, items []item) (int, error) {
	about := l.name("no room")
	room, full, err := l.budget.reserve(ctx, &l.session, len(items))
	if full != nil {
		full.event = *items[0].event
		l.health.stand(about, pipeline.StateBlocked, full.Error(), full)
	}
	if err != nil || full != nil {
		return 0, err
	}
	defer l.budget.release(room)
	l.health.relieve(about)
	letters := make([]message.DeadLetter, room)
	for i, it := range items[:room] {
		if it.err == nil {
			it.err, it.attempts = parked(it.event.Key), 0
		}
		letters[i] = message.DeadLetter{Message: *it.event, Error: it.err.Error(), Attempts: it.attempts,
			HoldsKey: l.holdsKey(it.event.Key)}
	}
	return room, l.addLetters(ctx, letters)
}

// refreshHolds reads again which keys are parked, after letters may have gone.
// Nothing of this lane is on its way to the dead letters, for mend alone adds
// them: a letter that was missed would set its key free and be overtaken.
func (l *lane) refreshHolds(ctx context.Context) error {
	l.mu.Lock()
	parked := len(l.held)
	l.mu.Unlock()
	if parked == 0 || !l.stale.Swap(false) {
		return nil
	}
	keys, err := l.readHolds(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.held
	l.held = map[string]int64{}
	l.hold(keys)
	for key := range before {
		if _, still := l.held[key]; !still {
			l.unpark(key)
		}
	}
	return nil
}

// hold parks those of the keys that are this lane's. The lock is held.
func (l *lane) hold(keys []message.HeldKey) {
	for _, k := range keys {
		if laneOf(k.Key, len(l.lanes)) == l.place {
			l.held[k.Key] = k.OutboxID
		}
	}
}

// isHeld says whether an event waits behind a dead letter of its key. One that
// is earlier than the letter does not: it is met again after a crash, and was
// sent before. The lock is held.
func (l *lane) isHeld(m *message.Message) bool {
	if m.Key == "" {
		return false
	}
	from, held := l.held[m.Key]
	return held && m.OutboxID >= from && !fault.Mutant(fault.RetryOvertaken)
}

// unpark lets events flow that came for a key while its last letter went. They
// come before what waits in their group, since they are earlier. The lock is held.
func (l *lane) unpark(key string) {
	var free, others []item
	for _, it := range l.parking {
		if it.event.Key == key {
			free = append(free, it)
		} else {
			others = append(others, it)
		}
	}
	if len(free) == 0 {
		return
	}
	l.parking = others
	group := l.group(key)
	b := l.waiting[group]
	if b == nil {
		b = &backlog{group: group, after: l.sent}
		l.waiting[group] = b
	}
	b.queue = append(free, b.queue...)
	b.due = time.Time{}
}

// readHolds asks which keys wait, when the policy cares.
func (s *session) readHolds(ctx context.Context) (keys []message.HeldKey, err error) {
	if s.limits.OnError != pipeline.ParkKey {
		return nil, nil
	}
	err = s.call(ctx, database, "read the keys of dead letters", func(ctx context.Context) error {
		keys, err = s.plan.DeadLetters.Held(ctx)
		return err
	})
	return keys, err
}

// holdsKey says whether a dead letter parks its key.
func (s *session) holdsKey(key string) bool {
	return key != "" && s.limits.OnError == pipeline.ParkKey
}

// parked is the error of an event that follows a dead letter of its key.
func parked(key string) error {
	return fmt.Errorf("key %q is parked: an earlier event of it waits as a dead letter; this one follows by itself once that one was retried or discarded", key)
}

// budget keeps a pipeline from holding more dead letters than it may. The
// count is asked for once and kept as an upper bound; it is asked for again
// when it seems used up.
type budget struct {
	// changed says that somebody may have taken letters away.
	changed atomic.Bool

	mu      sync.Mutex
	known   int // letters that there are at most
	pending int // those of them that are on their way
	counted time.Time
}

// reserve takes room for up to n letters, or says why there is none.
func (b *budget) reserve(ctx context.Context, s *session, n int) (room int, full *fullError, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit := s.limits.MaxDeadLetters
	if b.counted.IsZero() || b.known+n > limit {
		if err := b.recount(ctx, s); err != nil {
			return 0, nil, err
		}
	}
	room = min(n, limit-b.known)
	if room <= 0 {
		return 0, &fullError{count: b.known, limit: limit}, nil
	}
	b.known += room
	b.pending += room
	return room, nil, nil
}

// recount asks the database, unless it did so not long ago and nobody took
// letters away since.
func (b *budget) recount(ctx context.Context, s *session) error {
	now := s.clock.Now()
	if !b.changed.Swap(false) && !b.counted.IsZero() && now.Sub(b.counted) < s.options.LetterPoll {
		return nil
	}
	return s.call(ctx, database, "count the dead letters", func(ctx context.Context) error {
		count, err := s.plan.DeadLetters.Count(ctx)
		if err == nil {
			b.known, b.counted = count+b.pending, now
		}
		return err
	})
}

// release says that reserved letters were added, or not: the bound stays.
func (b *budget) release(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending -= n
}

// fullError says why an event that was refused holds the pipeline.
type fullError struct {
	count, limit int
	event        message.Message
}

func (e *fullError) Error() string {
	of := ""
	if e.event.Key != "" {
		of = fmt.Sprintf(" (key %q)", e.event.Key)
	}
	return fmt.Sprintf("event %s%s cannot be set aside: the pipeline has %d dead letters and max_dead_letters is %d; "+
		"retry or discard some (tide.dead_letter_retry, tide.dead_letter_discard), or raise the limit; nothing is dropped meanwhile",
		e.event.EventID, of, e.count, e.limit)
}
