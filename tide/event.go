package tide

import (
	"context"
	"encoding/json"
	"fmt"
)

// Event is what a service publishes.
type Event struct {
	// Type says what happened, for instance "order.created". It travels as the
	// header event_type; empty leaves it to the payload's member event_type, and
	// then to stream and op.
	Type string
	// Payload is anything that encoding/json can write; a json.RawMessage is
	// taken as it is.
	Payload any
	// Key is what the order is kept by: events of one outbox and key arrive in
	// the order they were published. Empty asks for no order.
	Key string
	// Stream is the kind of thing the event is about; empty means the outbox's name.
	Stream string
	// Op is what was done to it; empty means "insert".
	Op string
	// ID is the event id, a UUID; empty has the database draw one.
	ID string
	// Headers travel beside the payload.
	Headers map[string]any
}

// headerType is where the event type travels.
const headerType = "event_type"

// row is an event as the SQL functions take it; nil is their default.
type row struct {
	stream, payload, headers, key, op, id *string
}

func (e Event) row(ctx context.Context, outbox string, o options) (row, error) {
	payload, err := json.Marshal(e.Payload)
	if err != nil {
		return row{}, fmt.Errorf("publish to outbox %q: the payload of an event of type %q cannot be written as JSON: %w", outbox, e.Type, err)
	}
	headers, err := e.headers(ctx, outbox, o)
	if err != nil {
		return row{}, err
	}
	text := string(payload)
	return row{stream: some(e.Stream), payload: &text, headers: headers, key: some(e.Key), op: some(e.Op), id: some(e.ID)}, nil
}

// headers joins the event's own headers, its type, and those that come from
// the context; the event's own win.
func (e Event) headers(ctx context.Context, outbox string, o options) (*string, error) {
	all := map[string]any{}
	if o.headersFrom != nil {
		for name, value := range o.headersFrom(ctx) {
			all[name] = value
		}
	} else if parent, state := Trace(ctx); parent != "" {
		all[headerTraceparent] = parent
		if state != "" {
			all[headerTracestate] = state
		}
	}
	for name, value := range e.Headers {
		all[name] = value
	}
	if e.Type != "" {
		if other, given := e.Headers[headerType]; given && other != e.Type {
			return nil, fmt.Errorf("publish to outbox %q: the event's type is %q and its header %s says %v; give one of them", outbox, e.Type, headerType, other)
		}
		all[headerType] = e.Type
	}
	if len(all) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("publish to outbox %q: the headers of an event of type %q cannot be written as JSON: %w", outbox, e.Type, err)
	}
	headers := string(text)
	return &headers, nil
}

// some is nil for what is empty.
func some(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
