package tide

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// CloudEvent is an event in the form of CloudEvents 1.0. Its JSON is the
// specification's structured mode, so it is read from and written to what an
// SDK writes and reads. Only JSON data is taken.
type CloudEvent struct {
	// ID, Source and Type are required.
	ID, Source, Type string
	// Subject, Time, DataContentType and DataSchema are optional.
	Subject         string
	Time            time.Time
	DataContentType string
	DataSchema      string
	// Extensions are all other attributes: text, whole numbers and booleans.
	Extensions map[string]any
	// Data is JSON.
	Data json.RawMessage
}

// The attributes that pg_tide gives a meaning to.
const (
	attributeStream  = "tidestream"
	attributeOp      = "tideop"
	attributeHeaders = "tideheaders"
	// prefix stands before attributes that travel among an event's headers.
	prefix      = "ce-"
	specVersion = "1.0"
	jsonType    = "application/json"
	defaultOp   = "insert"
)

var attributeName = regexp.MustCompile(`^[a-z0-9]+$`)

// MarshalJSON writes the structured mode's JSON.
func (c CloudEvent) MarshalJSON() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	all := map[string]any{"specversion": specVersion, "id": c.ID, "source": c.Source, "type": c.Type}
	for name, value := range c.Extensions {
		all[name] = value
	}
	for name, value := range map[string]string{"subject": c.Subject, "datacontenttype": c.DataContentType, "dataschema": c.DataSchema} {
		if value != "" {
			all[name] = value
		}
	}
	if !c.Time.IsZero() {
		all["time"] = c.Time.Format(time.RFC3339Nano)
	}
	if c.Data != nil {
		all["data"] = c.Data
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads the structured mode's JSON, and refuses what the
// specification does not allow or pg_tide does not take.
func (c *CloudEvent) UnmarshalJSON(text []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("a CloudEvent in structured mode is a JSON object: %w", err)
	}
	read := CloudEvent{}
	var version, at string
	places := map[string]*string{"specversion": &version, "id": &read.ID, "source": &read.Source, "type": &read.Type, "subject": &read.Subject,
		"time": &at, "datacontenttype": &read.DataContentType, "dataschema": &read.DataSchema}
	for name, value := range all {
		place, known := places[name]
		switch {
		case name == "data":
			read.Data = bytes.Clone(value)
		case name == "data_base64":
			return errors.New("the CloudEvent has data_base64; pg_tide takes JSON data only")
		case string(value) == "null": // the same as not there
		case known:
			if json.Unmarshal(value, place) != nil {
				return fmt.Errorf("the CloudEvent's attribute %s is %s, which is not text", name, value)
			}
		default:
			if read.Extensions == nil {
				read.Extensions = map[string]any{}
			}
			var extension any
			if err := json.Unmarshal(value, &extension); err != nil {
				return err
			}
			read.Extensions[name] = extension
		}
	}
	if version != specVersion {
		return fmt.Errorf("the CloudEvent's specversion is %q; pg_tide takes %q", version, specVersion)
	}
	if at != "" {
		var err error
		if read.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return fmt.Errorf("the CloudEvent's time is %q, which is not a time of RFC 3339", at)
		}
	}
	if err := read.check(); err != nil {
		return err
	}
	*c = read
	return nil
}

// check refuses what the specification does not allow.
func (c *CloudEvent) check() error {
	for _, required := range []struct{ name, value string }{{"id", c.ID}, {"source", c.Source}, {"type", c.Type}} {
		if required.value == "" {
			return fmt.Errorf("the CloudEvent has no %s, which is required", required.name)
		}
	}
	for name, value := range c.Extensions {
		switch name {
		case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64":
			return fmt.Errorf("the CloudEvent's extension %s has the name of an attribute", name)
		}
		if !attributeName.MatchString(name) {
			return fmt.Errorf("the CloudEvent's attribute %q has a name that is not of lower-case letters and digits", name)
		}
		switch value.(type) {
		case string, bool, float64, int, int32, int64, json.Number:
		default:
			return fmt.Errorf("the CloudEvent's attribute %s is neither text nor a number nor a boolean", name)
		}
	}
	return nil
}

func (c *CloudEvent) isJSON() bool {
	name, _, _ := strings.Cut(c.DataContentType, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	return name == "" || name == jsonType || strings.HasSuffix(name, "+json")
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Event makes an event to publish of a CloudEvent. The subject is its key. An
// id that is no UUID is replaced by one that source and id give, always the
// same. What an event has no place for travels among its headers, from where
// Message.CloudEvent takes it again.
func (c CloudEvent) Event() (Event, error) {
	if err := c.check(); err != nil {
		return Event{}, err
	}
	if !c.isJSON() || c.Data == nil {
		return Event{}, fmt.Errorf("CloudEvent %s from %s: its content type is %q and it has %d bytes of data; pg_tide takes JSON", c.ID, c.Source, c.DataContentType, len(c.Data))
	}
	e := Event{Type: c.Type, Payload: c.Data, Key: c.Subject, ID: c.ID, Headers: map[string]any{prefix + "source": c.Source}}
	if !uuid.MatchString(c.ID) {
		e.ID = derived(c.Source, c.ID)
		e.Headers[prefix+"id"] = c.ID
	}
	if !c.Time.IsZero() {
		e.Headers[prefix+"time"] = c.Time.Format(time.RFC3339Nano)
	}
	if c.DataSchema != "" {
		e.Headers[prefix+"dataschema"] = c.DataSchema
	}
	for name, value := range c.Extensions {
		text, isText := value.(string)
		switch {
		case name == attributeStream && isText:
			e.Stream = text
		case name == attributeOp && isText:
			e.Op = text
		case name == attributeHeaders && isText:
			var own map[string]any
			if err := json.Unmarshal([]byte(text), &own); err != nil {
				return Event{}, fmt.Errorf("CloudEvent %s from %s: its attribute %s is not a JSON object: %w", c.ID, c.Source, name, err)
			}
			for header, value := range own {
				if header != headerType { // the type says it
					e.Headers[header] = value
				}
			}
		case name == headerTraceparent || name == headerTracestate:
			e.Headers[name] = value
		default:
			e.Headers[prefix+name] = value
		}
	}
	return e, nil
}

// derived is the UUID, version 5, of a source and an id in it.
func derived(source, id string) string {
	// The namespace for URLs, as RFC 9562 has it.
	namespace := []byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	sum := sha1.Sum(append(namespace, source+"#"+id...))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// CloudEvent is the message as a CloudEvent: one that was published as such
// comes out as it was, with its id, source and time.
func (m *Message) CloudEvent() (CloudEvent, error) {
	c := CloudEvent{ID: m.EventID, Source: m.Source, Type: m.Type, Subject: m.Key, DataContentType: jsonType, Data: m.Payload, Extensions: map[string]any{}}
	_, outbox, _ := strings.Cut(strings.TrimPrefix(m.Source, "/"), "/")
	if m.Stream != "" && m.Stream != outbox {
		c.Extensions[attributeStream] = m.Stream
	}
	if m.Op != "" && m.Op != defaultOp {
		c.Extensions[attributeOp] = m.Op
	}
	headers := map[string]any{}
	if len(m.Headers) > 0 {
		if err := json.Unmarshal(m.Headers, &headers); err != nil {
			return CloudEvent{}, fmt.Errorf("the headers of event %s are not a JSON object: %w", m.EventID, err)
		}
	}
	rest := map[string]any{}
	for name, value := range headers {
		attribute, ours := strings.CutPrefix(name, prefix)
		text, isText := value.(string)
		switch {
		case name == headerType:
		case name == headerTraceparent || name == headerTracestate:
			c.Extensions[name] = value
		case ours && isText && attribute == "id":
			c.ID = text
		case ours && isText && attribute == "source":
			c.Source = text
		case ours && isText && attribute == "dataschema":
			c.DataSchema = text
		case ours && isText && attribute == "time":
			at, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				return CloudEvent{}, fmt.Errorf("the header %s of event %s is %q, which is not a time of RFC 3339", name, m.EventID, text)
			}
			c.Time = at
		case ours && attributeName.MatchString(attribute):
			c.Extensions[attribute] = value
		default:
			rest[name] = value
		}
	}
	if len(rest) > 0 {
		text, err := json.Marshal(rest)
		if err != nil {
			return CloudEvent{}, err
		}
		c.Extensions[attributeHeaders] = string(text)
	}
	if len(c.Extensions) == 0 {
		c.Extensions = nil
	}
	return c, c.check()
}
