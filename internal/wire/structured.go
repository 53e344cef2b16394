package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Structured is the wire format "cloudevents": CloudEvents 1.0 in structured
// mode, one JSON object that holds attributes and payload.
type Structured struct{ Spelling Spelling }

// structuredEvent is the JSON of an event in structured mode.
type structuredEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Time        *time.Time      `json:"time,omitempty"`
	Subject     string          `json:"subject,omitempty"`
	ContentType string          `json:"datacontenttype,omitempty"`
	Stream      string          `json:"tidestream,omitempty"`
	Op          string          `json:"tideop,omitempty"`
	Headers     string          `json:"tideheaders,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
}

// Encode writes m as an envelope. It fails with the verdict reject.
func (s Structured) Encode(m *message.Message) (message.Envelope, error) {
	published := m.Time.UTC()
	event := structuredEvent{
		SpecVersion: specVersion, ID: m.EventID, Source: m.Source, Type: m.EventType, Time: &published,
		Subject: m.Key, ContentType: jsonType, Headers: string(m.Headers), Data: m.Payload,
	}
	if m.Stream != m.Outbox {
		event.Stream = m.Stream
	}
	if m.Op != defaultOp {
		event.Op = m.Op
	}
	body, err := json.Marshal(&event)
	if err != nil {
		return message.Envelope{}, delivery.Reject(fmt.Errorf("write event %s as a structured CloudEvent: %w", m.EventID, err))
	}
	return message.Envelope{
		Destination: m.Destination, EventID: m.EventID, Key: m.Key, Body: body,
		Headers: []message.Header{{Name: s.Spelling.ContentType, Value: structuredType}},
	}, nil
}

// Decode reads any of the formats that this package knows.
func (s Structured) Decode(e *message.Envelope) (message.Message, error) { return s.Spelling.decode(e) }

func (s Spelling) decodeStructured(e *message.Envelope) (message.Message, error) {
	var event structuredEvent
	if err := json.Unmarshal(e.Body, &event); err != nil {
		return message.Message{}, fmt.Errorf("the body is not a structured CloudEvent: %w", err)
	}
	if event.Data == nil {
		return message.Message{}, errors.New(`the structured CloudEvent has no "data"; pg_tide takes JSON payloads only`)
	}
	m := message.Message{
		EventID: event.ID, Source: event.Source, Outbox: outboxOf(event.Source), Stream: event.Stream, Key: event.Subject,
		Op: event.Op, EventType: event.Type, Time: e.Time, Payload: event.Data, Destination: e.Destination,
	}
	if event.Time != nil {
		m.Time = *event.Time
	}
	if event.Headers != "" {
		m.Headers = []byte(event.Headers)
	}
	return m, complete(&m, e)
}
