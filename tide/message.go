package tide

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Message is an event that has arrived in an inbox.
type Message struct {
	// Inbox is where it waits, ID its number there.
	Inbox string
	ID    int64
	// EventID is the event's own, everywhere the same.
	EventID string
	// Source says where the event was published: "/<database id>/<outbox>".
	Source string
	// Type is the event type.
	Type string
	// Stream, Key and Op are as they were published; a Key that is empty was not given.
	Stream, Key, Op string
	// Payload is JSON.
	Payload json.RawMessage
	// Headers is a JSON object, or empty.
	Headers json.RawMessage
	// ReceivedAt is when it was stored in the inbox.
	ReceivedAt time.Time
	// Attempts counts how often it was claimed, this time included.
	Attempts int
}

// Header returns a header that is text; empty when there is none of that name.
func (m *Message) Header(name string) string {
	// Most messages have none; looking is cheaper than parsing.
	if !bytes.Contains(m.Headers, []byte(name)) {
		return ""
	}
	var all map[string]any
	if json.Unmarshal(m.Headers, &all) != nil {
		return ""
	}
	text, _ := all[name].(string)
	return text
}

// PayloadError is the failure of a message whose payload is not what the
// handler's Go type holds. It is retried as any failure; a Middleware that
// wants such messages to be dead letters at once returns Discard of it.
type PayloadError struct {
	Message *Message
	Err     error
}

func (e *PayloadError) Error() string {
	return fmt.Sprintf("the payload of event %s of type %q does not fit its handler: %v", e.Message.EventID, e.Message.Type, e.Err)
}

// Unwrap returns what encoding/json said.
func (e *PayloadError) Unwrap() error { return e.Err }
