// Package relay is the engine: it moves events from a reader to a sink, or
// from a source to an inbox, and decides what happens when something fails.
// It knows no broker and no SQL; what it needs it asks for in ports.go.
package relay
