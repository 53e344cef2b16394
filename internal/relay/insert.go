package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// inserter is one lane of a reverse session: it makes the messages of its keys
// durable, in order, in transactions of its own.
type inserter struct {
	*reverse
	place    int
	arrivals chan []arrival
	wake     chan struct{}
	stale    atomic.Bool
	// held are the keys that are parked behind a dead letter.
	held map[string]bool
}

func (i *inserter) hold(keys []message.HeldKey) {
	i.held = map[string]bool{}
	for _, k := range keys {
		if laneOf(k.Key, len(i.inserters)) == i.place {
			i.held[k.Key] = true
		}
	}
}

// store works batches: what has arrived meanwhile goes into one, for a
// transaction costs the same whatever it holds.
func (i *inserter) store(ctx, intake context.Context) error {
	pace := both(ctx, intake)
	for batch := range i.arrivals {
		for more := true; more && len(batch) < i.limits.BatchSize; {
			select {
			case next, open := <-i.arrivals:
				batch = append(batch, next...)
				more = open
			default:
				more = false
			}
		}
		if err := i.refreshHolds(ctx); err != nil {
			return err
		}
		err := i.storeBatch(ctx, pace, batch)
		if intake.Err() != nil && (err == nil || errors.Is(err, errIntakeDone)) {
			return nil // what is not settled comes again
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refreshHolds reads again which keys are parked. Letters are added by this
// goroutine, so none is on its way.
func (i *inserter) refreshHolds(ctx context.Context) error {
	if len(i.held) == 0 || !i.stale.Swap(false) {
		return nil
	}
	keys, err := i.readHolds(ctx)
	if err != nil {
		return err
	}
	i.hold(keys)
	return nil
}

// sorted is a batch after changing.
type sorted struct {
	messages []message.Message
	// places are the indices in the batch of messages.
	places   []int
	letters  []placed
	filtered int
	// end is where the batch ends: in front of a message that blocks.
	end int
}

// placed is a dead letter with its message's place in the batch.
type placed struct {
	message.DeadLetter
	place int
}

func (i *inserter) storeBatch(ctx, pace context.Context, batch []arrival) error {
	s, block, err := i.sort(batch)
	if err != nil {
		return err
	}
	fault.At(fault.ReverseAfterDecode)
	inserted, err := i.insertAll(ctx, batch, s, &block)
	if err != nil {
		return err
	}
	if err := i.addPlaced(ctx, pace, s.letters); err != nil {
		return err
	}
	i.health.count(inserted, s.filtered, 0)
	i.settleArrivals(batch[:s.end])
	if block != nil {
		i.health.count(0, 0, 1)
	}
	return block
}

// settleArrivals lets deliveries be acknowledged as far as they are dealt with.
func (i *inserter) settleArrivals(done []arrival) {
	for from := 0; from < len(done); {
		until := from + 1
		for until < len(done) && done[until].of == done[from].of {
			until++
		}
		i.tracker.settle(done[from].of, until-from)
		from = until
	}
}

// sort changes the messages. Under the policy block it ends in front of the
// first that fails.
func (i *inserter) sort(batch []arrival) (s *sorted, block, err error) {
	s = &sorted{end: len(batch)}
	for n := range batch {
		a := &batch[n]
		var changed message.Message
		keep, err := false, a.err
		if key := named(a.message, a.envelope).Key; key != "" && i.held[key] {
			i.putAway(s, batch, n, a.message, parked(key), 0)
			continue
		}
		if err == nil {
			changed, keep, err = i.change(a.message)
		}
		switch {
		case err != nil && !isRefusal(err):
			return s, nil, err
		case err != nil && i.limits.OnError == pipeline.Block:
			s.end = n
			return s, blocked(named(a.message, a.envelope), err), nil
		case err != nil:
			i.putAway(s, batch, n, a.message, err, 1)
		case !keep:
			s.filtered++
		default:
			s.messages = append(s.messages, changed)
			s.places = append(s.places, n)
		}
	}
	return s, nil, nil
}

// putAway makes a message a dead letter, with its bytes.
func (i *inserter) putAway(s *sorted, batch []arrival, n int, m message.Message, err error, attempts int) {
	e := batch[n].envelope
	m = *named(m, e)
	if i.holdsKey(m.Key) {
		i.held[m.Key] = true
	}
	s.letters = append(s.letters, placed{place: n, DeadLetter: message.DeadLetter{
		Message:          m,
		Body:             e.Body,
		TransportHeaders: e.Headers,
		Coordinates:      e.Coordinates,
		Error:            err.Error(),
		Attempts:         attempts,
		HoldsKey:         i.holdsKey(m.Key),
	}})
}

// insertAll inserts the messages; those that the inbox can never take become
// dead letters, or the first of them blocks, and the rest is offered again.
func (i *inserter) insertAll(ctx context.Context, batch []arrival, s *sorted, block *error) (int, error) {
	for len(s.messages) > 0 {
		inserted, err := i.insert(ctx, s.messages, i.endOf(batch, s))
		if err == nil {
			return inserted, nil
		}
		partial, ok := partialOf(err, len(s.messages))
		if partial == nil {
			return 0, err
		}
		if !ok || !allRejected(partial) {
			return 0, &sideError{side: database, err: blame(partial)}
		}
		if i.limits.OnError == pipeline.Block {
			first, _ := partial.First()
			*block = blocked(&s.messages[first], partial.Failed[first])
			s.end = s.places[first]
			s.messages, s.places = s.messages[:first], s.places[:first]
			continue
		}
		i.takeOut(batch, s, partial)
	}
	return 0, nil
}

// endOf returns the fetch whose mark is true once the messages are committed:
// the last, if nothing of the batch is left for later. With one lane a batch
// ends where a fetch does, and all before it are dealt with.
func (i *inserter) endOf(batch []arrival, s *sorted) *fetch {
	if len(s.letters) > 0 || s.end < len(batch) {
		return nil
	}
	if end := &batch[len(batch)-1].of.value; i.memo.withInsert(end) {
		return end
	}
	return nil
}

// takeOut moves refused messages to the letters, and with them those behind
// them whose key that parks.
func (i *inserter) takeOut(batch []arrival, s *sorted, partial *delivery.Partial) {
	all, places := s.messages, s.places
	s.messages, s.places = nil, nil
	for n := range all {
		if err, refused := partial.Failed[n]; refused {
			i.putAway(s, batch, places[n], all[n], err, 1)
			continue
		}
		if key := all[n].Key; key != "" && i.held[key] {
			i.putAway(s, batch, places[n], all[n], parked(key), 0)
			continue
		}
		s.messages = append(s.messages, all[n])
		s.places = append(s.places, places[n])
	}
}

// addPlaced adds dead letters in the order of their messages, and waits for
// room while there are too many.
func (i *inserter) addPlaced(ctx, pace context.Context, letters []placed) error {
	ordered := inOrder(letters)
	about := fmt.Sprintf("%d no room", i.place)
	for len(ordered) > 0 {
		room, full, err := i.budget.reserve(ctx, &i.session, len(ordered))
		if err != nil {
			return err
		}
		if full != nil {
			full.event = ordered[0].Message
			i.health.stand(about, pipeline.StateBlocked, full.Error(), full)
			if !i.idle(pace) {
				return errIntakeDone
			}
			continue
		}
		i.health.relieve(about)
		err = i.addLetters(ctx, ordered[:room])
		i.budget.release(room)
		if err != nil {
			return err
		}
		ordered = ordered[room:]
	}
	return nil
}

// idle waits a while for room, and returns false when it is time to stop.
func (i *inserter) idle(ctx context.Context) bool {
	timer := i.clock.NewTimer(roomPoll)
	defer timer.Stop()
	select {
	case <-i.wake:
	case <-timer.C():
	case <-ctx.Done():
		return false
	}
	return true
}

// inOrder returns letters in the order of their messages.
func inOrder(letters []placed) []message.DeadLetter {
	slices.SortStableFunc(letters, func(a, b placed) int { return a.place - b.place })
	ordered := make([]message.DeadLetter, len(letters))
	for n := range letters {
		ordered[n] = letters[n].DeadLetter
	}
	return ordered
}
