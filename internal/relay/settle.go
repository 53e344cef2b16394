package relay

import (
	"context"
	"errors"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// settle is the third stage: it waits for the acknowledgements in the order of
// sending, so a position is offered for saving only when everything before it
// is durable. Were receipts awaited in any order, a crash could find a saved
// position with an event before it that the broker never stored.
func (f *forwarding) settle(ctx context.Context) error {
	defer close(f.wake)
	for {
		var o outstanding
		select {
		case next, ok := <-f.sent:
			if !ok {
				return nil
			}
			o = next
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := f.await(ctx, &o); err != nil {
			return err
		}
		if o.position != nil {
			f.offer(o.position)
		}
	}
}

func (f *forwarding) await(ctx context.Context, o *outstanding) error {
	delivered := len(o.batch)
	if o.receipt != nil {
		if err := o.receipt.Wait(ctx); err != nil {
			var partial *delivery.Partial
			if !errors.As(err, &partial) || !onlyRejections(partial) {
				return at(broker, err)
			}
			if err := f.refusedAfterSend(ctx, o.batch, partial); err != nil {
				return err
			}
			delivered -= len(partial.Failed)
		}
		f.taken(o.batch)
		f.progress()
	}
	f.status.count(delivered, o.filtered, 0)
	return nil
}

// refusedAfterSend decides about events that the broker refused while it took
// others of the batch. As long as one has attempts left the session ends, and
// everything is resent in order from the saved position; the broker drops what
// it has already. After the last attempt the policy applies.
func (f *forwarding) refusedAfterSend(ctx context.Context, batch []prepared, partial *delivery.Partial) error {
	var letters []message.DeadLetter
	var again error
	for _, i := range partial.Indices() {
		m, err := batch[i].original, partial.Failed[i]
		switch {
		case !f.refused(m.EventID):
			again = at(broker, err)
		case f.plan.Limits.OnError == pipeline.Block:
			return f.block(m, err)
		default:
			letters = append(letters, f.letter(m, err))
		}
	}
	if err := f.setAside(ctx, letters); err != nil {
		return err
	}
	if again == nil && len(letters) > 0 && f.plan.Limits.OnError == pipeline.ParkKey {
		// The next session reads which keys wait and holds their later events.
		again = at(broker, errors.New("a key was parked; the session starts again with it held"))
	}
	return again
}

// offer makes a position the next to be saved. One that was offered before and
// not yet saved is overtaken: under load one save stands for many pages.
func (f *forwarding) offer(position *message.Position) {
	f.positions.Lock()
	f.acked = position
	f.positions.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// save is the last stage. It saves the newest acknowledged position, as often
// as saving takes, and the last one before it ends.
func (f *forwarding) save(ctx context.Context) error {
	for {
		open := true
		select {
		case _, open = <-f.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		f.positions.Lock()
		position := f.acked
		f.acked = nil
		f.positions.Unlock()
		if position != nil {
			if err := f.plan.Reader.Save(ctx, *position); err != nil {
				return at(database, err)
			}
		}
		if !open {
			return nil
		}
	}
}
