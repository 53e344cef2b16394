package nats

import (
	"context"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/pg-tide/pg-tide/internal/message"
)

// Known asks of each envelope whether the sink's first stream has it.
func Known(ctx context.Context, s *Sink, envelopes []message.Envelope, surely bool) ([]bool, error) {
	messages := make([]natsgo.Msg, len(envelopes))
	for i := range envelopes {
		toMessage(&envelopes[i], &messages[i])
	}
	r := &orderedReceipt{conn: s.conn, marks: &s.marks, limits: s.limits, whole: true, waiting: &s.conn.waiting}
	return r.known(ctx, s.streams[0], messages, surely)
}

// Crash cuts the connection as the death of the process would: nothing is
// handed back.
func Crash(s *Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session.conn.nc.Close()
}

// MeasureEvery is how often a source asks for its backlog.
func MeasureEvery(s *Source, interval time.Duration) { s.measures = interval }
