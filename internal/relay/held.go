package relay

import (
	"context"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// heldKeys are the keys whose later events must wait behind a dead letter, by
// the policy park_key.
type heldKeys map[string]bool

// readHeld reads the keys that wait; the other policies hold none.
func (w *worker) readHeld(ctx context.Context) (heldKeys, error) {
	held := heldKeys{}
	if w.plan.Limits.OnError != pipeline.ParkKey {
		return held, nil
	}
	keys, err := w.plan.DeadLetters.Held(ctx)
	if err != nil {
		return nil, at(database, err)
	}
	for _, key := range keys {
		held[key] = true
	}
	return held, nil
}

// hold notes that an event was set aside.
func (h heldKeys) hold(policy pipeline.Policy, m *message.Message) {
	if policy == pipeline.ParkKey && m.Key != "" {
		h[m.Key] = true
	}
}

func (h heldKeys) holds(m *message.Message) bool { return m.Key != "" && h[m.Key] }

// setAside stores dead letters durably. Only then may the events count as
// acknowledged: a crash before it resends them, a crash after it finds them here.
func (w *worker) setAside(ctx context.Context, letters []message.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	if err := w.plan.DeadLetters.Add(ctx, letters); err != nil {
		return at(database, err)
	}
	w.status.count(0, 0, len(letters))
	w.log.Warn("events were set aside as dead letters", "events", len(letters), "first_event_id", letters[0].Message.EventID, "error", letters[0].Error)
	return nil
}
