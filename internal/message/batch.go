package message

import "context"

// Page is what the reader of an outbox returns: events in the order they must
// be delivered, and the position that holds once all of them, and all pages
// before, are durable at the far end.
type Page struct {
	Messages []Message
	Position Position
}

// Delivery is what a source fetched: envelopes in the order of the source.
type Delivery struct {
	// Envelopes may be none, when there is only a mark to save.
	Envelopes []Envelope
	// Mark holds once they are durable, and all that came before. It is saved
	// before they are acknowledged, unless its Origin is empty.
	Mark Mark
	// Acknowledge tells the source that all of them are durable here. Called
	// after the inbox's commit and never before.
	Acknowledge func(ctx context.Context) error
}
