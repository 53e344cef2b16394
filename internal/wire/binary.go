package wire

import (
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Binary is the default wire format, called "native" in the configuration:
// CloudEvents 1.0 in binary mode. The body is the payload, untouched; an
// attribute travels as a header, and only where it says something.
type Binary struct{ Spelling Spelling }

// Encode writes m as an envelope. It fails with the verdict reject.
func (b Binary) Encode(m *message.Message) (message.Envelope, error) {
	headers := make([]message.Header, 0, 8)
	add := func(name, value string) {
		headers = append(headers, message.Header{Name: name, Value: escapeValue(value)})
	}
	names := &b.Spelling.names
	add(names.specVersion, specVersion)
	add(names.id, m.EventID)
	add(names.source, m.Source)
	add(names.kind, m.EventType)
	add(names.time, m.Time.UTC().Format(time.RFC3339Nano))
	if m.Key != "" {
		add(names.subject, m.Key)
	}
	if m.Stream != m.Outbox {
		add(names.stream, m.Stream)
	}
	if m.Op != defaultOp {
		add(names.op, m.Op)
	}
	headers, err := b.Spelling.appendPublished(headers, m.Headers)
	if err != nil {
		return message.Envelope{}, delivery.Reject(err)
	}
	return message.Envelope{
		Destination: m.Destination,
		EventID:     m.EventID,
		Key:         m.Key,
		Headers:     headers,
		Body:        m.Payload,
	}, nil
}

// Decode reads any of the formats that this package knows.
func (b Binary) Decode(e *message.Envelope) (message.Message, error) { return b.Spelling.decode(e) }

// Split takes a batch of CloudEvents apart.
func (b Binary) Split(e *message.Envelope) ([]message.Envelope, bool) { return b.Spelling.split(e) }
