package message

import "encoding/json"

// EventTypeOf returns the type of an event that names none elsewhere: the
// header event_type, else payload.event_type, else stream and op joined by a dot.
func EventTypeOf(m *Message) string {
	var named struct {
		EventType string `json:"event_type"`
	}
	for _, text := range [][]byte{m.Headers, m.Payload} {
		if len(text) > 0 && json.Unmarshal(text, &named) == nil && named.EventType != "" {
			return named.EventType
		}
	}
	return m.Stream + "." + m.Op
}
