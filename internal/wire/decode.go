package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// decode reads an envelope in whichever format it is. Whether the payload is
// JSON that PostgreSQL takes is for the inbox to find out, which has to parse
// it anyway. It fails with the verdict reject.
func (s Spelling) decode(e *message.Envelope) (message.Message, error) {
	return s.decodeAs(e, message.IsUUID)
}

// decodeAs is decode with another opinion of which ids are Debezium's.
func (s Spelling) decodeAs(e *message.Envelope, isID func(id string) bool) (message.Message, error) {
	m, err := s.decodeAny(e, isID)
	if err != nil {
		return message.Message{}, delivery.Reject(fmt.Errorf("message %s on %s: %w", e.Coordinates, e.Destination, err))
	}
	return m, nil
}

func (s Spelling) decodeAny(e *message.Envelope, isID func(id string) bool) (message.Message, error) {
	contentType := s.lookUp(e, s.ContentType)
	switch mediaType(contentType) {
	case structuredType:
		return s.decodeStructured(e)
	case batchType:
		return message.Message{}, errors.New("it calls itself a batch of CloudEvents and is not a JSON list")
	}
	if s.Bare && contentType == "" && s.lookUp(e, s.names.specVersion) == "" && isBareEvent(e.Body) {
		return s.decodeStructured(e)
	}
	if !isJSON(contentType) {
		return message.Message{}, fmt.Errorf("its content type is %q; pg_tide takes JSON", contentType)
	}
	if len(e.Body) == 0 {
		return message.Message{}, errors.New("its body is empty; pg_tide takes JSON")
	}
	isCloudEvent := s.lookUp(e, s.names.specVersion) != ""
	if !isCloudEvent && s.isDebezium(e, isID) {
		return s.decodeDebezium(e)
	}
	headers, err := s.publishedHeaders(e.Headers)
	if err != nil {
		return message.Message{}, err
	}
	m := message.Message{Time: e.Time, Payload: e.Body, Headers: headers, Destination: e.Destination}
	if isCloudEvent {
		extensions := s.readAttributes(e, &m)
		if m.Headers, err = s.withExtensions(m.Headers, extensions); err != nil {
			return message.Message{}, err
		}
	}
	return m, complete(&m, e)
}

// isBareEvent tells whether a body is an event in structured mode: it has all
// that CloudEvents requires of one.
func isBareEvent(body []byte) bool {
	if !bytes.Contains(body, []byte(`"`+attributeSpecVersion+`"`)) {
		return false
	}
	var required struct{ SpecVersion, ID, Source, Type string }
	if err := json.Unmarshal(body, &required); err != nil {
		return false
	}
	return required.SpecVersion == specVersion && required.ID != "" && required.Source != "" && required.Type != ""
}

// lookUp finds a header whatever its case: clients differ in how they write them.
func (s Spelling) lookUp(e *message.Envelope, name string) string {
	if value := e.Header(name); value != "" {
		return value
	}
	for i := range e.Headers {
		if strings.EqualFold(e.Headers[i].Name, name) {
			return e.Headers[i].Value
		}
	}
	return ""
}

// readAttributes puts the attributes into m and returns those that have no
// place there.
func (s Spelling) readAttributes(e *message.Envelope, m *message.Message) (extensions map[string]any) {
	for i := range e.Headers {
		name := e.Headers[i].Name
		if len(name) <= len(s.Prefix) || !strings.EqualFold(name[:len(s.Prefix)], s.Prefix) {
			continue
		}
		value := unescapeValue(e.Headers[i].Value)
		switch attribute := strings.ToLower(name[len(s.Prefix):]); attribute {
		case attributeSpecVersion, attributeContentType:
		case attributeID:
			m.EventID = value
		case attributeSource:
			m.Source = value
			m.Outbox = message.OutboxOf(value)
		case attributeType:
			m.EventType = value
		case attributeTime:
			if t, err := time.Parse(time.RFC3339Nano, value); err == nil {
				m.Time = t
			}
		case attributeSubject:
			m.Key = value
		case attributeStream:
			m.Stream = value
		case attributeOp:
			m.Op = value
		default:
			extensions = put(extensions, attribute, value)
		}
	}
	return extensions
}

// complete fills in what a stranger did not say. CloudEvents promises an id
// that is unique within its source only, so a stranger's is joined to it.
func complete(m *message.Message, e *message.Envelope) error {
	switch {
	case m.EventID != "" && m.Outbox == "":
		m.EventID = m.Source + "#" + m.EventID
	case m.EventID == "" && e.EventID != "":
		m.EventID = e.EventID
	case m.EventID == "":
		m.EventID = e.Coordinates
	}
	return fill(m, e)
}

// fill is complete for a message whose event id is settled.
func fill(m *message.Message, e *message.Envelope) error {
	if m.EventID == "" {
		return errors.New("it has neither a message id nor coordinates to be known by")
	}
	if len(m.EventID) > maxEventID {
		return fmt.Errorf("its event id has %d bytes; the most is %d", len(m.EventID), maxEventID)
	}
	if m.Key == "" {
		m.Key = e.Key
	}
	if m.Source == "" {
		m.Source = sourceOf(e)
	}
	if m.Key == "" {
		m.Key = e.Key
	}
	if m.Stream == "" {
		m.Stream = m.Outbox
	}
	if m.Stream == "" {
		m.Stream = e.Destination
	}
	if m.Op == "" {
		m.Op = defaultOp
	}
	if m.EventType == "" {
		m.EventType = message.EventTypeOf(m)
	}
	return nil
}

// sourceOf is the source of a message that names none: its coordinates without
// what counts the messages.
func sourceOf(e *message.Envelope) string {
	stem, _, _ := strings.Cut(e.Coordinates, "#")
	if cut := strings.LastIndexByte(stem, ':'); cut > 0 {
		return stem[:cut]
	}
	return stem
}
