package message

import "time"

// Message is one event, decoded, on its way through a pipeline in either
// direction. Payload and Headers are kept as the JSON text they arrived as,
// so that a pipeline without a filter never parses them.
type Message struct {
	// EventID is globally unique and stable across retries and rewinds. Our own
	// are UUIDs in canonical text form; a stranger's is whatever it sent.
	EventID string
	// Source is the CloudEvents source: "/<database id>/<outbox>" for ours.
	Source string
	// Outbox is the name of the outbox the event left from; empty for strangers.
	Outbox string
	// OutboxID is the row's id in the outbox; 0 on the way in.
	OutboxID int64
	// XID is the database transaction that published it; 0 on the way in.
	XID uint64
	// Transaction is what it is delivered with, where a pipeline keeps
	// transactions whole; else nil.
	Transaction *Transaction
	// Stream is the kind of thing the event is about; by default the outbox's name.
	Stream string
	// Key is what order is kept by; empty means that no order is asked for.
	Key string
	// Op is insert, update, delete or the publisher's own token.
	Op string
	// EventType is the header event_type, else payload.event_type, else
	// stream and op joined by a dot.
	EventType string
	// Time is when the event was published.
	Time time.Time
	// Payload is JSON text.
	Payload []byte
	// Headers is the publisher's headers as a JSON object; nil when there are none.
	Headers []byte
	// Destination is the subject, topic or routing key, filled in by the
	// pipeline's template on the way out; on the way in, where it came from.
	Destination string
}

// Transaction stands for the events that one database transaction published to
// an outbox. Those that are delivered together point to the same one.
type Transaction struct {
	// XID is its number in the database.
	XID uint64
	// Parted says that it is too large to be read at once: its events come in
	// their own places among those of others, and whoever has them does not
	// have all.
	Parted bool
}

// Header is one transport header. Names may repeat.
type Header struct {
	Name  string
	Value string
}

// Envelope is an event as a transport carries it: encoded on the way out,
// not yet decoded on the way in.
type Envelope struct {
	// Destination is the subject, topic or routing key.
	Destination string
	// EventID is the broker's message id where the broker removes duplicates.
	// On the way in it is the message id that the transport carried, or empty.
	EventID string
	// Transaction is the event's; nil where nobody keeps transactions whole.
	Transaction *Transaction
	// Key partitions where the transport partitions.
	Key string
	// Headers are the transport's headers, in the transport's own spelling.
	Headers []Header
	// Body is what was, or will be, on the wire, byte for byte.
	Body []byte
	// Time is when the broker stored the message; zero on the way out.
	Time time.Time
	// Coordinates name the message within its transport for ever, such as
	// "nats:ORDERS:1234": the event id of a stranger that sent none. Empty on
	// the way out.
	Coordinates string
}

// Header returns the first header of that exact name, or "".
func (e *Envelope) Header(name string) string {
	for i := range e.Headers {
		if e.Headers[i].Name == name {
			return e.Headers[i].Value
		}
	}
	return ""
}

// HeldKey is a key whose events wait behind a dead letter.
type HeldKey struct {
	Key string
	// OutboxID is the first letter's, on the way out: what is earlier in the
	// outbox was delivered before it, or has to be. 0 on the way in.
	OutboxID int64
}

// DeadLetter is an event that could not be delivered or processed, whole,
// with the reason.
type DeadLetter struct {
	// ID is the row's id in tide.dead_letters; 0 before it was added.
	ID int64
	// Message holds what is known of the event. On the way in it may be
	// nearly empty, for what could not be decoded; Body is then the truth.
	Message Message
	// Body is the transport's body on the way in, byte for byte; nil on the way out.
	Body []byte
	// TransportHeaders are those of the transport on the way in.
	TransportHeaders []Header
	// Coordinates are the envelope's, so that the same message is added once.
	Coordinates string
	// Error says in words what failed.
	Error string
	// Attempts counts how often delivery was tried; 0 for an event that was
	// parked behind another of its key.
	Attempts int
	// HoldsKey says that later events of the key wait for this one.
	HoldsKey bool
}
