package relay

import (
	"context"
	"errors"
	"slices"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// errIntakeDone ends the sending of a page because the pipeline is to stop.
var errIntakeDone = errors.New("stopping")

// ship changes, encodes and sends pages. When intake is done, or when an event
// blocks the pipeline, it lets the receipts of what was sent come in.
func (f *forward) ship(ctx, intake context.Context) error {
	defer close(f.shipments)
	for page := range f.pages {
		if intake.Err() != nil {
			return nil
		}
		if err := f.refreshHolds(ctx); err != nil {
			return err
		}
		var block *blockedError
		switch err := f.shipPage(ctx, intake, page); {
		case err == nil:
		case errors.Is(err, errIntakeDone):
			return nil
		case errors.As(err, &block):
			f.held = err
			f.stopIntake()
			return nil
		default:
			return err
		}
	}
	return nil
}

// refreshHolds reads the parked keys again after letters may have been
// settled. Without the wait before it, a letter on its way to the database
// would be missed, its key taken for free, and the next event of it sent first.
func (f *forward) refreshHolds(ctx context.Context) error {
	if len(f.holds.keys) == 0 || !f.holds.stale.Load() {
		return nil
	}
	if err := f.barrier(ctx); err != nil {
		return err
	}
	return f.readHolds(ctx)
}

// parcel collects what one send will carry.
type parcel struct {
	originals []message.Message
	envelopes []message.Envelope
	letters   []placed
	filtered  int
}

// placed is a dead letter with its event's place in the page.
type placed struct {
	message.DeadLetter
	place int
}

// inOrder returns letters in the order of their events.
func inOrder(letters []placed) []message.DeadLetter {
	slices.SortStableFunc(letters, func(a, b placed) int { return a.place - b.place })
	var ordered []message.DeadLetter
	for i := range letters {
		ordered = append(ordered, letters[i].DeadLetter)
	}
	return ordered
}

// pageWork is the state of sending one page.
type pageWork struct {
	*forward
	intake context.Context
	page   message.Page
	parcel parcel
	// places are the indices in the page of the parcel's originals.
	places []int
}

func (f *forward) shipPage(ctx, intake context.Context, page message.Page) error {
	w := &pageWork{forward: f, intake: intake, page: page}
	most := f.memory.limiter.Burst()
	for i := range page.Messages {
		if err := w.take(ctx, i); err != nil {
			return err
		}
		if most > 0 && len(w.parcel.envelopes) >= most {
			if err := w.send(ctx, nil); err != nil {
				return err
			}
		}
	}
	return w.send(ctx, &page.Position)
}

// take decides about one event of the page: send it with others, alone, leave
// it out, or put it away.
func (w *pageWork) take(ctx context.Context, i int) error {
	original := &w.page.Messages[i]
	if w.holds.has(original.Key) {
		w.putAway(i, parked(original.Key), 0)
		return nil
	}
	envelope, keep, err := w.prepare(original)
	switch {
	case err != nil && !isRefusal(err):
		return err
	case err != nil:
		return w.giveUp(ctx, i, err, 1)
	case !keep:
		w.parcel.filtered++
		return nil
	}
	if _, found := w.memory.refusalOf(original.EventID); found {
		return w.sendAlone(ctx, i, envelope)
	}
	w.parcel.originals = append(w.parcel.originals, *original)
	w.parcel.envelopes = append(w.parcel.envelopes, envelope)
	w.places = append(w.places, i)
	return nil
}

func (f *forward) prepare(original *message.Message) (message.Envelope, bool, error) {
	changed, keep, err := f.change(*original)
	if err != nil || !keep {
		return message.Envelope{}, false, err
	}
	envelope, err := f.plan.Codec.Encode(&changed)
	return envelope, err == nil, err
}

// putAway makes an event of the page a dead letter, stored before the position
// passes it, and parks its key if the policy says so.
func (w *pageWork) putAway(i int, err error, attempts int) {
	original := w.page.Messages[i]
	w.hold(original.Key)
	w.parcel.letters = append(w.parcel.letters, placed{
		DeadLetter: message.DeadLetter{Message: original, Error: err.Error(), Attempts: attempts},
		place:      i,
	})
}

// giveUp applies the policy to an event that will not be taken.
func (w *pageWork) giveUp(ctx context.Context, i int, err error, attempts int) error {
	if w.limits.OnError != pipeline.Block {
		w.putAway(i, err, attempts)
		return nil
	}
	if err := w.send(ctx, nil); err != nil {
		return err
	}
	w.memory.block(i)
	w.health.count(0, 0, 1)
	return blocked(&w.page.Messages[i], err)
}

// send hands over what was collected and starts a new parcel. The position
// comes with the last parcel of a page.
func (w *pageWork) send(ctx context.Context, position *message.Position) error {
	if position == nil && len(w.parcel.originals)+len(w.parcel.letters)+w.parcel.filtered == 0 {
		return nil
	}
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	receipt, err := w.hand(ctx)
	if err != nil {
		return err
	}
	s := shipment{receipt: receipt, filtered: w.parcel.filtered, position: position}
	if receipt != nil {
		s.messages = w.parcel.originals
	}
	s.letters = inOrder(w.parcel.letters)
	w.parcel, w.places = parcel{}, nil
	w.shipments <- s // never waits: it has as much room as there are slots
	return nil
}

// hand sends the parcel's envelopes. What the sink refuses before sending
// anything is taken out, and the rest offered again.
func (w *pageWork) hand(ctx context.Context) (delivery.Receipt, error) {
	for len(w.parcel.envelopes) > 0 {
		if err := w.memory.limiter.Wait(w.intake, len(w.parcel.envelopes)); err != nil {
			return nil, errIntakeDone
		}
		receipt, err := w.sendNow(ctx, w.parcel.envelopes)
		if err == nil {
			return receipt, nil
		}
		partial, ok := partialOf(err, len(w.parcel.envelopes))
		if partial == nil {
			return nil, err
		}
		if !ok || !allRejected(partial) {
			return nil, &sideError{side: farEnd, err: blame(partial)}
		}
		if w.limits.OnError == pipeline.Block {
			return nil, w.blockAt(ctx, partial)
		}
		w.takeOut(partial)
	}
	return nil, nil
}

func (f *forward) sendNow(ctx context.Context, envelopes []message.Envelope) (receipt delivery.Receipt, err error) {
	f.sending.Lock()
	defer f.sending.Unlock()
	if err := f.lease.check(); err != nil {
		return nil, err
	}
	err = f.call(ctx, farEnd, "send to the sink", func(ctx context.Context) error {
		receipt, err = f.plan.Sink.Send(ctx, envelopes)
		return err
	})
	return receipt, err
}

// takeOut moves refused events from the parcel to its letters, and with them
// the events behind them whose key that parks.
func (w *pageWork) takeOut(partial *delivery.Partial) {
	left := parcel{letters: w.parcel.letters, filtered: w.parcel.filtered}
	all, places := w.parcel, w.places
	w.parcel, w.places = left, nil
	for i := range all.originals {
		original := &all.originals[i]
		if err, refused := partial.Failed[i]; refused {
			w.putAway(places[i], err, 1)
			continue
		}
		if w.holds.has(original.Key) {
			w.putAway(places[i], parked(original.Key), 0)
			continue
		}
		w.parcel.originals = append(w.parcel.originals, *original)
		w.parcel.envelopes = append(w.parcel.envelopes, all.envelopes[i])
		w.places = append(w.places, places[i])
	}
}

// blockAt sends what precedes the first refused event and holds the pipeline there.
func (w *pageWork) blockAt(ctx context.Context, partial *delivery.Partial) error {
	first, _ := partial.First()
	w.memory.block(w.places[first])
	w.health.count(0, 0, 1)
	err := blocked(&w.parcel.originals[first], partial.Failed[first])
	if first == 0 {
		return err
	}
	receipt, failure := w.sendNow(ctx, w.parcel.envelopes[:first])
	if failure != nil {
		return failure
	}
	w.shipments <- shipment{messages: w.parcel.originals[:first], receipt: receipt, filtered: w.parcel.filtered}
	return err
}

// barrier waits until everything that was sent is acknowledged.
func (f *forward) barrier(ctx context.Context) error {
	for range cap(f.slots) {
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for range cap(f.slots) {
		<-f.slots
	}
	return nil
}

// sendAlone tries an event that was refused before with nothing else on its
// way: what follows it would be stored although it was refused once more, and
// overtake it if a later attempt succeeds.
func (w *pageWork) sendAlone(ctx context.Context, i int, envelope message.Envelope) error {
	if err := w.send(ctx, nil); err != nil {
		return err
	}
	if err := w.barrier(ctx); err != nil {
		return err
	}
	original := w.page.Messages[i]
	history, _ := w.memory.refusalOf(original.EventID)
	for tried := false; history.attempts < w.limits.MaxAttempts || (w.limits.OnError == pipeline.Block && !tried); tried = true {
		if tried {
			w.noteAttempt(&original, history)
			if retry.Sleep(w.intake, w.clock, w.options.Refusal.After(history.attempts)) != nil {
				return errIntakeDone
			}
		}
		err := w.deliver(ctx, envelope)
		if err == nil {
			w.memory.forget([]message.Message{original})
			w.memory.block(-1)
			w.health.count(1, 0, 0)
			return nil
		}
		if partial, ok := partialOf(err, 1); partial == nil || !ok || !allRejected(partial) {
			return err
		}
		history = w.memory.refuse(original.EventID, unwrapPartial(err))
	}
	return w.giveUp(ctx, i, history.err, history.attempts)
}

// deliver sends one envelope and waits for its receipt.
func (f *forward) deliver(ctx context.Context, envelope message.Envelope) error {
	if err := f.memory.limiter.Wait(ctx, 1); err != nil {
		return err
	}
	receipt, err := f.sendNow(ctx, []message.Envelope{envelope})
	if err != nil {
		return err
	}
	return f.call(ctx, farEnd, "wait for the sink's acknowledgement", receipt.Wait)
}
