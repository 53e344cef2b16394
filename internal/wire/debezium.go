package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Debezium is the wire format "debezium": the layout that Debezium's outbox
// event router gives a row of its outbox table. The value is the payload, the
// key is the event's, and the columns are headers, named as by the router's
// table.fields.additional.placement
//
//	type:header:eventType,aggregatetype:header:aggregateType,aggregateid:header:aggregateId
//
// of which the last is left out where the transport has a key of its own.
type Debezium struct{ Spelling Spelling }

// The headers of the layout. Only the first is always there in Debezium's own.
const (
	debeziumID     = "id"
	debeziumType   = "eventType"
	debeziumStream = "aggregateType"
	debeziumKey    = "aggregateId"
	debeziumOp     = "op" // ours: a column that the router would place as well
)

// debeziumContext begins the headers in which Debezium's engine tells about its
// own run, and nothing about the event.
const debeziumContext = "__debezium.context."

// hiddenPrefix marks, in the header that carries what cannot be a header
// itself, what is an attribute; a publisher's name that begins with it is
// written with one more.
const hiddenPrefix = ":"

// Encode writes m as an envelope. It fails with the verdict reject.
func (d Debezium) Encode(m *message.Message) (message.Envelope, error) {
	headers := make([]message.Header, 0, 6)
	hidden := map[string]json.RawMessage{}
	add := func(name, value string) error {
		if isVisible(value) && value[0] != '"' { // which would be taken for Debezium's
			headers = append(headers, message.Header{Name: name, Value: value})
			return nil
		}
		text, err := json.Marshal(value)
		hidden[hiddenPrefix+name] = text
		return err
	}
	attributes := [][2]string{{debeziumID, m.EventID}, {debeziumType, m.EventType}, {debeziumStream, m.Stream}}
	if m.Key != "" && !d.Spelling.OwnKey {
		attributes = append(attributes, [2]string{debeziumKey, m.Key})
	}
	if m.Op != defaultOp {
		attributes = append(attributes, [2]string{debeziumOp, m.Op})
	}
	for _, a := range attributes {
		if err := add(a[0], a[1]); err != nil {
			return message.Envelope{}, delivery.Reject(fmt.Errorf("write the attribute %s of event %s: %w", a[0], m.EventID, err))
		}
	}
	headers, err := d.appendPublished(headers, hidden, m.Headers)
	if err != nil {
		return message.Envelope{}, delivery.Reject(err)
	}
	return message.Envelope{Destination: m.Destination, EventID: m.EventID, Key: m.Key, Headers: headers, Body: m.Payload}, nil
}

// appendPublished adds the publisher's headers, and in one more whatever
// cannot be a header.
func (d Debezium) appendPublished(headers []message.Header, hidden map[string]json.RawMessage, published []byte) ([]message.Header, error) {
	var object map[string]json.RawMessage
	if len(published) > 0 {
		if err := json.Unmarshal(published, &object); err != nil {
			return nil, fmt.Errorf("read the publisher's headers: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		var value string
		if d.Spelling.mayTravel(name) && placeOf(name) == notOurs && json.Unmarshal(object[name], &value) == nil && isVisible(value) {
			headers = append(headers, message.Header{Name: name, Value: value})
			continue
		}
		if strings.HasPrefix(name, hiddenPrefix) {
			hidden[hiddenPrefix+name] = object[name]
			continue
		}
		hidden[name] = object[name]
	}
	if len(hidden) == 0 {
		return headers, nil
	}
	rest, err := json.Marshal(hidden)
	if err != nil {
		return nil, fmt.Errorf("write the publisher's headers: %w", err)
	}
	return append(headers, message.Header{Name: headersHeader, Value: asciiJSON(rest)}), nil
}

// Decode reads any of the formats that this package knows. A message whose
// header id is no UUID is one of Debezium's only where the configuration says so.
func (d Debezium) Decode(e *message.Envelope) (message.Message, error) {
	return d.Spelling.decodeAs(e, func(id string) bool { return id != "" })
}

// Split takes a batch of CloudEvents apart.
func (d Debezium) Split(e *message.Envelope) ([]message.Envelope, bool) { return d.Spelling.split(e) }

// notOurs is the place of a header that is the publisher's.
const notOurs = -1

// placeOf says which attribute a header of the layout is, by its index;
// transports and clients differ in the case that they write.
func placeOf(name string) int {
	for i, known := range [...]string{debeziumID, debeziumType, debeziumStream, debeziumKey, debeziumOp} {
		if strings.EqualFold(name, known) {
			return i
		}
	}
	return notOurs
}

// isDebezium tells whether a message that is no CloudEvent has the layout.
func (s Spelling) isDebezium(e *message.Envelope, isID func(id string) bool) bool {
	for i := range e.Headers {
		if strings.EqualFold(e.Headers[i].Name, debeziumID) {
			return isID(unquoted(e.Headers[i].Value))
		}
	}
	return false
}

func (s Spelling) decodeDebezium(e *message.Envelope) (message.Message, error) {
	m := message.Message{Time: e.Time, Payload: expanded(e.Body), Destination: e.Destination}
	places := [5]*string{&m.EventID, &m.EventType, &m.Stream, &m.Key, &m.Op}
	var published []message.Header
	quoted := quotesHeaders(e)
	for _, h := range e.Headers {
		switch place := placeOf(h.Name); {
		case place != notOurs:
			*places[place] = unquoted(h.Value)
		case strings.HasPrefix(h.Name, debeziumContext):
		case quoted:
			published = append(published, message.Header{Name: h.Name, Value: unquoted(h.Value)})
		default:
			published = append(published, h)
		}
	}
	headers, err := s.publishedHeaders(published)
	if err != nil {
		return message.Message{}, err
	}
	if m.Headers, err = unhide(headers, &places); err != nil {
		return message.Message{}, err
	}
	if !message.IsUUID(m.EventID) { // unique within its table only
		m.EventID = sourceOf(e) + "#" + m.EventID
	}
	return m, fill(&m, e)
}

// unhide takes the attributes out of headers that could not travel as they are.
func unhide(headers []byte, places *[5]*string) ([]byte, error) {
	if !bytes.Contains(headers, []byte(`"`+hiddenPrefix)) {
		return headers, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(headers, &object); err != nil {
		return nil, fmt.Errorf("its headers are not a JSON object: %w", err)
	}
	shown := map[string]json.RawMessage{}
	for name, value := range object {
		attribute, isHidden := strings.CutPrefix(name, hiddenPrefix)
		place := notOurs
		if isHidden {
			place = placeOf(attribute)
		}
		switch {
		case place != notOurs:
			if err := json.Unmarshal(value, places[place]); err != nil {
				return nil, fmt.Errorf("its attribute %s is not text", attribute)
			}
		case isHidden:
			shown[attribute] = value
		default:
			shown[name] = value
		}
	}
	if len(shown) == 0 {
		return nil, nil
	}
	return json.Marshal(shown)
}

// quotesHeaders tells whether Debezium's JSON header format wrote the headers,
// which then all are JSON.
func quotesHeaders(e *message.Envelope) bool {
	for i := range e.Headers {
		if strings.EqualFold(e.Headers[i].Name, debeziumID) {
			return strings.HasPrefix(e.Headers[i].Value, `"`)
		}
	}
	return false
}

// unquoted is a header's value as a string: Debezium's JSON header format
// writes quotes around it, others do not.
func unquoted(value string) string {
	var text string
	if strings.HasPrefix(value, `"`) && json.Unmarshal([]byte(value), &text) == nil {
		return text
	}
	return value
}

// expanded undoes what Debezium's converters do to a payload of JSON: one
// without expand.json.payload writes it as a JSON string, and one with schemas
// puts it beside its schema.
func expanded(body []byte) []byte {
	var enveloped struct {
		Schema  *struct{ Type string } `json:"schema"`
		Payload json.RawMessage        `json:"payload"`
	}
	trimmed := bytes.TrimSpace(body)
	if bytes.HasPrefix(trimmed, []byte("{")) && json.Unmarshal(trimmed, &enveloped) == nil &&
		enveloped.Schema != nil && enveloped.Schema.Type != "" && enveloped.Payload != nil && members(trimmed) == 2 {
		body, trimmed = enveloped.Payload, enveloped.Payload
	}
	var text string
	if !bytes.HasPrefix(trimmed, []byte(`"`)) || json.Unmarshal(trimmed, &text) != nil {
		return body
	}
	inner := strings.TrimSpace(text)
	if (strings.HasPrefix(inner, "{") || strings.HasPrefix(inner, "[")) && json.Valid([]byte(inner)) {
		return []byte(inner)
	}
	return body
}

func members(object []byte) int {
	var all map[string]json.RawMessage
	if json.Unmarshal(object, &all) != nil {
		return 0
	}
	return len(all)
}
