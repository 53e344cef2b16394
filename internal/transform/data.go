package transform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/pg-tide/pg-tide/internal/message"
)

// event is what expressions and templates see of a message. Payload and
// headers are parsed at the first use.
type event struct {
	message *message.Message
	payload any
	headers any
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

// variables are the names that an expression sees.
func (e *event) variables() (map[string]any, error) {
	if err := e.parse(); err != nil {
		return nil, err
	}
	return map[string]any{
		"payload": e.payload, "headers": e.headers, "stream": e.message.Stream,
		"key": e.message.Key, "op": e.message.Op, "event_type": e.message.EventType,
	}, nil
}

// parseJSON reads JSON. A number becomes a float64, which the expression
// languages calculate with, unless that would change it: then it stays text,
// and passes through a payload expression to the last digit.
func parseJSON(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return numbers(value), nil
}

func numbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		return number(v)
	case map[string]any:
		for name, inner := range v {
			v[name] = numbers(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = numbers(inner)
		}
	}
	return value
}

// exactDigits is how many significant digits a float64 keeps whatever they are.
const exactDigits = 15

func number(n json.Number) any {
	f, err := n.Float64()
	if err != nil {
		return n
	}
	if len(n) <= exactDigits {
		return f
	}
	exact, ok := new(big.Rat).SetString(string(n))
	shown, err := json.Marshal(f)
	if !ok || err != nil {
		return n
	}
	if again, ok := new(big.Rat).SetString(string(shown)); ok && exact.Cmp(again) == 0 {
		return f
	}
	return n
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
