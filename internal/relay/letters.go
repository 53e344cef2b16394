package relay

import (
	"context"
	"errors"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// lettersAtOnce bounds how many dead letters are tried in one go.
const lettersAtOnce = 100

// errKeyWaits is why a dead letter is not tried although somebody asked for it.
var errKeyWaits = errors.New("an earlier dead letter of its key failed again")

// retryDue tries the dead letters that somebody asked to retry, oldest first.
// One that fails again is put back, and with it the later ones of its key, so
// that a key's order survives. try returns nil when the letter was delivered,
// and an error with the verdict reject when it was refused; any other error
// ends the session and leaves the letters as they are.
func (w *worker) retryDue(ctx context.Context, try func(ctx context.Context, letter *message.DeadLetter) error) (settled bool, err error) {
	for {
		letters, err := w.plan.DeadLetters.Due(ctx, lettersAtOnce)
		if err != nil {
			return settled, at(database, err)
		}
		failed := map[string]bool{}
		for i := range letters {
			letter := &letters[i]
			key := letter.Message.Key
			result := errKeyWaits
			if key == "" || !failed[key] {
				result = try(ctx, letter)
			}
			if result != nil && !isRejection(result) && !errors.Is(result, errKeyWaits) {
				return settled, result
			}
			if result != nil && key != "" {
				failed[key] = true
			}
			if err := w.plan.DeadLetters.Settle(ctx, letter.ID, result); err != nil {
				return settled, at(database, err)
			}
			settled = true
		}
		if len(letters) < lettersAtOnce {
			return settled, nil
		}
	}
}

// isRejection tells whether an error is the event's own fault.
func isRejection(err error) bool {
	var partial *delivery.Partial
	if errors.As(err, &partial) {
		return onlyRejections(partial)
	}
	verdict, _ := delivery.VerdictOf(err)
	return verdict == delivery.VerdictReject
}

// retryLetters sends dead letters again, each on its own: they are few, and
// the fate of each is told apart.
func (f *forwarding) retryLetters(ctx context.Context) error {
	settled, err := f.retryDue(ctx, func(ctx context.Context, letter *message.DeadLetter) error {
		envelope, keep, err := f.encode(letter.Message)
		if err != nil || !keep {
			return err
		}
		receipt, err := f.plan.Sink.Send(ctx, []message.Envelope{envelope})
		if err == nil {
			err = receipt.Wait(ctx)
		}
		if err != nil {
			return at(broker, err)
		}
		f.status.count(1, 0, 0)
		return nil
	})
	if err != nil || !settled {
		return err
	}
	f.held, err = f.readHeld(ctx)
	return err
}

// retryLetters inserts dead letters of the way in again, from their bytes.
func (r *reversing) retryLetters(ctx context.Context) error {
	settled, err := r.retryDue(ctx, func(ctx context.Context, letter *message.DeadLetter) error {
		m, keep, err := r.decode(envelopeOf(letter))
		if err != nil || !keep {
			return err
		}
		if _, err := r.plan.Inbox.Insert(ctx, []message.Message{m}); err != nil {
			return at(database, err)
		}
		r.status.count(1, 0, 0)
		return nil
	})
	if err != nil || !settled {
		return err
	}
	r.held, err = r.readHeld(ctx)
	return err
}

// envelopeOf is the envelope that a dead letter came in.
func envelopeOf(letter *message.DeadLetter) *message.Envelope {
	return &message.Envelope{
		Destination: letter.Message.Destination,
		EventID:     letter.Message.EventID,
		Headers:     letter.TransportHeaders,
		Body:        letter.Body,
		Time:        letter.Message.Time,
		Coordinates: letter.Coordinates,
	}
}
