package transform

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/message"
)

// The names that an expression sees.
const (
	namePayload   = "payload"
	nameHeaders   = "headers"
	nameStream    = "stream"
	nameKey       = "key"
	nameOp        = "op"
	nameEventType = "event_type"
)

// names returns them all, in the order in which they are told.
func names() []string {
	return []string{namePayload, nameHeaders, nameStream, nameKey, nameOp, nameEventType}
}

// event is what expressions and templates see of a message. Payload and
// headers are parsed at the first use, their numbers still as written.
type event struct {
	message *message.Message
	payload any
	headers any
	digits  digits
	parsed  bool
}

// parse reads payload and headers as JSON.
func (e *event) parse() error {
	if e.parsed {
		return nil
	}
	var err error
	if e.payload, err = parseJSON(e.message.Payload); err != nil {
		return fmt.Errorf("its payload is not JSON: %w", err)
	}
	e.headers = map[string]any{}
	if len(e.message.Headers) > 0 {
		if e.headers, err = parseJSON(e.message.Headers); err != nil {
			return fmt.Errorf("its headers are not JSON: %w", err)
		}
	}
	e.parsed = true
	return nil
}

// forCondition are the variables of an expression that decides.
func (e *event) forCondition() (map[string]any, error) {
	if err := e.parse(); err != nil {
		return nil, err
	}
	return e.variables(nearest), nil
}

// forRewriting are the variables of an expression that makes a payload.
func (e *event) forRewriting() (map[string]any, error) {
	if err := e.parse(); err != nil {
		return nil, err
	}
	e.digits.remember([]any{e.payload, e.headers})
	return e.variables(e.digits.forRewriting), nil
}

func (e *event) variables(number func(json.Number) any) map[string]any {
	return map[string]any{
		namePayload: copyOf(e.payload, number), nameHeaders: copyOf(e.headers, number), nameStream: e.message.Stream,
		nameKey: e.message.Key, nameOp: e.message.Op, nameEventType: e.message.EventType,
	}
}

// parseJSON reads JSON, its numbers as they are written.
func parseJSON(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return value, nil
}

// writeJSON writes a value as JSON, without escaping what HTML minds.
func writeJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
