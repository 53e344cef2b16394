package relay

import (
	"context"
	"errors"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// errKeyHeld is why an event is set aside although nothing is wrong with it.
var errKeyHeld = errors.New("an earlier event of its key waits as a dead letter and on_error is park_key")

// prepared is an event ready to send, with what it was before it was changed.
type prepared struct {
	original *message.Message
	envelope message.Envelope
}

// prepare changes and encodes messages in order. Those that fail are set
// aside by the policy; under block it returns the events before the failing
// one together with a *blockedError.
func (f *forwarding) prepare(ctx context.Context, messages []message.Message) (batch []prepared, filtered int, err error) {
	batch = make([]prepared, 0, len(messages))
	var letters []message.DeadLetter
	policy := f.plan.Limits.OnError
	for i := range messages {
		original := &messages[i]
		if f.held.holds(original) {
			letters = append(letters, f.letter(original, errKeyHeld))
			continue
		}
		envelope, keep, err := f.encode(*original)
		if err != nil {
			if policy == pipeline.Block {
				return batch, filtered, f.block(original, err)
			}
			f.held.hold(policy, original)
			letters = append(letters, f.letter(original, err))
			continue
		}
		if !keep {
			filtered++
			continue
		}
		batch = append(batch, prepared{original: original, envelope: envelope})
	}
	return batch, filtered, f.setAside(ctx, letters)
}

// encode takes a copy of the message, so that the original stays as it was published.
func (w *worker) encode(m message.Message) (envelope message.Envelope, keep bool, err error) {
	if keep, err = w.change(&m); err != nil || !keep {
		return message.Envelope{}, false, err
	}
	envelope, err = w.plan.Codec.Encode(&m)
	return envelope, err == nil, err
}

func (w *worker) change(m *message.Message) (keep bool, err error) {
	for _, change := range w.plan.Changes {
		if keep, err = change.Apply(m); err != nil || !keep {
			return false, err
		}
	}
	return true, nil
}
