package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// mostNoted bounds the inboxes or outboxes of which a sink notes the last event.
const mostNoted = 32

// mark is the last event of each inbox or outbox. A database that was restored
// or promoted lost what was committed last: one that has this event has all
// that the same connection committed before it.
type mark struct {
	At   time.Time         `json:"at"`
	Last map[string]string `json:"last"`
}

// note takes in the last event that is committed somewhere.
func (s *Sink) note(destination, eventID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, noted := s.last[destination]; noted || len(s.last) < mostNoted {
		if s.last == nil {
			s.last = map[string]string{}
		}
		s.last[destination] = eventID
	}
}

// Mark says what the other database had last.
func (s *Sink) Mark() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) == 0 {
		return ""
	}
	text, err := json.Marshal(mark{At: time.Now().UTC().Truncate(time.Second), Last: s.last})
	if err != nil {
		return "" // without a mark nothing is concluded
	}
	return string(text)
}

// Prove asks the other database whether it still has what it had by then.
func (s *Sink) Prove(ctx context.Context, text string) (delivery.Proof, error) {
	var m mark
	if err := json.Unmarshal([]byte(text), &m); err != nil || len(m.Last) == 0 {
		return delivery.Proof{}, nil //nolint:nilerr // it is another sink's: the pipeline led elsewhere before
	}
	peer, err := s.current()
	if err != nil {
		return delivery.Proof{}, err
	}
	whole := delivery.Proof{Holds: true}
	for _, name := range slices.Sorted(maps.Keys(m.Last)) {
		proof, err := s.knows(ctx, peer, name, m.Last[name], m.At)
		if err != nil {
			return delivery.Proof{}, fmt.Errorf("compare with what was acknowledged: %w", err)
		}
		if proof.Lost != "" {
			return proof, nil
		}
		whole.Holds = whole.Holds && proof.Holds
	}
	return whole, nil
}
