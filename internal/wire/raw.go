package wire

import "github.com/pg-tide/pg-tide/internal/message"

// Raw is the wire format "raw": the payload alone. No attribute and no header
// of the publisher's travels; a transport may still carry the event id and the
// key in places of its own.
type Raw struct{ Spelling Spelling }

// Encode writes m as an envelope. It never fails.
func (r Raw) Encode(m *message.Message) (message.Envelope, error) {
	return message.Envelope{Destination: m.Destination, EventID: m.EventID, Key: m.Key, Body: m.Payload}, nil
}

// Decode reads any of the formats that this package knows.
func (r Raw) Decode(e *message.Envelope) (message.Message, error) { return r.Spelling.decode(e) }

// Split takes a batch of CloudEvents apart.
func (r Raw) Split(e *message.Envelope) ([]message.Envelope, bool) { return r.Spelling.split(e) }
