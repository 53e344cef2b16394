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

// Split takes a batch of CloudEvents apart.
func (s Structured) Split(e *message.Envelope) ([]message.Envelope, bool) { return s.Spelling.split(e) }

func (s Spelling) decodeStructured(e *message.Envelope) (message.Message, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.Body, &members); err != nil {
		return message.Message{}, fmt.Errorf("the body is not a structured CloudEvent: %w", err)
	}
	data, err := dataOf(members)
	if err != nil {
		return message.Message{}, err
	}
	m := message.Message{Time: e.Time, Payload: data, Destination: e.Destination}
	extensions, headers, err := readMembers(members, &m)
	if err != nil {
		return message.Message{}, err
	}
	if headers != "" {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(headers), &object); err != nil {
			return message.Message{}, fmt.Errorf("its attribute %s is not a JSON object: %w", attributeHeaders, err)
		}
		m.Headers = []byte(headers)
	}
	if m.Headers, err = s.withExtensions(m.Headers, extensions); err != nil {
		return message.Message{}, err
	}
	return m, complete(&m, e)
}

// dataOf returns the payload of a structured event. JSON may also be written in
// base64, as by those who do not look at what they send.
func dataOf(members map[string]json.RawMessage) (json.RawMessage, error) {
	if data := members["data"]; data != nil {
		return data, nil
	}
	encoded := members[memberBase64]
	if encoded == nil {
		return nil, errors.New(`the structured CloudEvent has no "data"; pg_tide takes JSON payloads only`)
	}
	var data []byte
	if err := json.Unmarshal(encoded, &data); err != nil {
		return nil, fmt.Errorf("its data_base64 is not base64: %w", err)
	}
	var contentType string
	if text := members[attributeContentType]; text != nil && json.Unmarshal(text, &contentType) != nil || !isJSON(contentType) || !json.Valid(data) {
		return nil, errors.New("its data_base64 is not JSON; pg_tide takes JSON payloads only")
	}
	return data, nil
}

// readMembers puts the attributes into m and returns those that have no place
// there, and the publisher's headers.
func readMembers(members map[string]json.RawMessage, m *message.Message) (extensions map[string]any, headers string, err error) {
	places := map[string]*string{
		attributeID: &m.EventID, attributeSource: &m.Source, attributeType: &m.EventType, attributeSubject: &m.Key,
		attributeStream: &m.Stream, attributeOp: &m.Op, attributeHeaders: &headers,
	}
	for name, value := range members {
		switch name {
		case "data", memberBase64, attributeSpecVersion, attributeContentType:
			continue
		case attributeTime:
			var text string
			if json.Unmarshal(value, &text) == nil {
				if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
					m.Time = t
				}
			}
			continue
		}
		if place := places[name]; place == nil {
			extensions = put(extensions, name, value)
		} else if err := json.Unmarshal(value, place); err != nil {
			return nil, "", fmt.Errorf("its attribute %s is not text", name)
		}
	}
	m.Outbox = message.OutboxOf(m.Source)
	return extensions, headers, nil
}
