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

// needs are the parts of an event that an expression or placeholder looks
// into, and that have to be parsed for it.
type needs struct{ payload, headers bool }

// event is what expressions and templates see of a message. Payload and
// headers are parsed at the first use, their numbers still as written.
type event struct {
	message *message.Message
	payload any
	headers any
	digits  digits
	parsed  needs
}

// parse reads what is needed as JSON.
func (e *event) parse(wanted needs) error {
	var err error
	if wanted.payload && !e.parsed.payload {
		if e.payload, err = parseJSON(e.message.Payload); err != nil {
			return fmt.Errorf("its payload is not JSON: %w", err)
		}
		e.parsed.payload = true
	}
	if wanted.headers && !e.parsed.headers {
		e.headers = map[string]any{}
		if len(e.message.Headers) > 0 {
			if e.headers, err = parseJSON(e.message.Headers); err != nil {
				return fmt.Errorf("its headers are not JSON: %w", err)
			}
		}
		e.parsed.headers = true
	}
	return nil
}

// forCondition are the variables of an expression that decides.
func (e *event) forCondition(wanted needs) (map[string]any, error) {
	if err := e.parse(wanted); err != nil {
		return nil, err
	}
	return e.variables(wanted, nearest), nil
}

// prepareRewriting parses what is needed and remembers how its numbers are written.
func (e *event) prepareRewriting(wanted needs) error {
	if err := e.parse(wanted); err != nil {
		return err
	}
	e.digits.remember([]any{e.payload, e.headers})
	return nil
}

func (e *event) variables(wanted needs, number func(json.Number) any) map[string]any {
	variables := map[string]any{
		namePayload: nil, nameHeaders: nil, nameStream: e.message.Stream,
		nameKey: e.message.Key, nameOp: e.message.Op, nameEventType: e.message.EventType,
	}
	if wanted.payload {
		variables[namePayload] = copyOf(e.payload, number)
	}
	if wanted.headers {
		variables[nameHeaders] = copyOf(e.headers, number)
	}
	return variables
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
