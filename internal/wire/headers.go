package wire

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-tide/pg-tide/internal/message"
)

// appendPublished adds the publisher's headers. One that can be a header of
// the transport as it is becomes one; the rest travel together as JSON in a
// header of ours, so that whatever was published arrives.
func (s Spelling) appendPublished(headers []message.Header, published []byte) ([]message.Header, error) {
	if len(published) == 0 || string(published) == "{}" {
		return headers, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(published, &object); err != nil {
		return nil, fmt.Errorf("read the publisher's headers: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		var value string
		if s.mayTravel(name) && json.Unmarshal(object[name], &value) == nil && isVisible(value) {
			headers = append(headers, message.Header{Name: name, Value: value})
			delete(object, name)
		}
	}
	if len(object) == 0 {
		return headers, nil
	}
	rest, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("write the publisher's headers: %w", err)
	}
	return append(headers, message.Header{Name: headersHeader, Value: asciiJSON(rest)}), nil
}

// mayTravel tells whether a publisher's header may become a header of that name.
func (s Spelling) mayTravel(name string) bool { return isToken(name) && !s.ours(name) }

// ours tells whether a header's name belongs to CloudEvents, the transport or us.
func (s Spelling) ours(name string) bool {
	lower := strings.ToLower(name)
	if strings.HasPrefix(lower, s.Prefix) || lower == strings.ToLower(s.ContentType) || lower == headersHeader || slices.Contains(s.ReservedNames, lower) {
		return true
	}
	return slices.ContainsFunc(s.Reserved, func(prefix string) bool { return strings.HasPrefix(lower, prefix) })
}

// publishedHeaders collects the publisher's headers again, as a JSON object;
// nil when there are none. A header that stood there more than once becomes a list.
func (s Spelling) publishedHeaders(headers []message.Header) ([]byte, error) {
	var object map[string]any
	for _, h := range headers {
		if strings.EqualFold(h.Name, headersHeader) {
			var rest map[string]json.RawMessage
			if err := json.Unmarshal([]byte(h.Value), &rest); err != nil {
				return nil, fmt.Errorf("its header %s is not a JSON object: %w", headersHeader, err)
			}
			for name, value := range rest {
				object = put(object, name, value)
			}
			continue
		}
		if s.ours(h.Name) {
			continue
		}
		object = put(object, h.Name, h.Value)
	}
	if object == nil {
		return nil, nil
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("write the message's headers as JSON: %w", err)
	}
	return text, nil
}

// withExtensions adds the attributes of a stranger's CloudEvent that a message
// has no place for to its headers, as the transport spells them, so that they
// arrive too. A header of that very name wins.
func (s Spelling) withExtensions(headers []byte, extensions map[string]any) ([]byte, error) {
	if len(extensions) == 0 {
		return headers, nil
	}
	object := map[string]json.RawMessage{}
	if len(headers) > 0 {
		if err := json.Unmarshal(headers, &object); err != nil {
			return nil, fmt.Errorf("its headers are not a JSON object: %w", err)
		}
	}
	for attribute, value := range extensions {
		name := s.Prefix + attribute
		if _, there := object[name]; there {
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write the attribute %s as JSON: %w", attribute, err)
		}
		object[name] = text
	}
	return json.Marshal(object)
}

func put(object map[string]any, name string, value any) map[string]any {
	if object == nil {
		object = map[string]any{}
	}
	switch before := object[name].(type) {
	case nil:
		object[name] = value
	case []any:
		object[name] = append(before, value)
	default:
		object[name] = []any{before, value}
	}
	return object
}

// asciiJSON writes what is not ASCII as \u escapes: transports do not agree
// on what else a header may hold.
func asciiJSON(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r < 0x10000:
			writeEscape(&b, r)
		default:
			r -= 0x10000
			writeEscape(&b, 0xd800+r>>10)
			writeEscape(&b, 0xdc00+r&0x3ff)
		}
	}
	return b.String()
}

func writeEscape(b *strings.Builder, r rune) {
	b.WriteString(`\u`)
	digits := strconv.FormatInt(int64(r), 16)
	b.WriteString(strings.Repeat("0", 4-len(digits)))
	b.WriteString(digits)
}
