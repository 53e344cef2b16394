package tide

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Handler works one message. What it returns says what becomes of it.
type Handler func(ctx context.Context, m *Message) error

// Middleware wraps a handler, for instance to measure it or to open a span.
type Middleware func(next Handler) Handler

// Handle has messages of an event type worked by handler, with their payload
// read into a T. One event type has one handler; Run says when it was given two.
func Handle[T any](w *Worker, eventType string, handler func(ctx context.Context, m *Message, payload T) error) {
	w.handle(eventType, func(ctx context.Context, m *Message) error {
		var payload T
		if err := json.Unmarshal(m.Payload, &payload); err != nil {
			return &PayloadError{Message: m, Err: err}
		}
		return handler(ctx, m, payload)
	})
}

// verdict is a handler's result other than processed or failed.
type verdict struct {
	kind  Outcome
	pause time.Duration
	err   error
}

func (v *verdict) Error() string {
	if v.err == nil {
		return fmt.Sprintf("snoozed for %s", v.pause)
	}
	return v.err.Error()
}

func (v *verdict) Unwrap() error { return v.err }

// RetryIn fails a message, to be tried again after a pause. When it has been
// tried as often as its inbox allows it becomes a dead letter.
func RetryIn(pause time.Duration, err error) error {
	return &verdict{kind: Failed, pause: max(pause, 0), err: given(err)}
}

// Snooze puts a message off without counting the attempt.
func Snooze(pause time.Duration) error { return &verdict{kind: Released, pause: max(pause, 0)} }

// Discard makes a message a dead letter at once: trying again would not help.
func Discard(err error) error { return &verdict{kind: Dead, err: given(err)} }

func given(err error) error {
	if err == nil {
		return errors.New("no error was given")
	}
	return err
}

// PanicError is the failure of a message whose handler panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.Value) }

// Outcome is what became of a message.
type Outcome string

// What may become of a message.
const (
	// Processed: it is done.
	Processed Outcome = "processed"
	// Failed: it will be tried again.
	Failed Outcome = "failed"
	// Dead: it is a dead letter.
	Dead Outcome = "dead"
	// Released: it was given back, and the attempt does not count.
	Released Outcome = "released"
	// Lost: its lease was lost; whoever has the message now says what becomes of it.
	Lost Outcome = "lost"
)

// Metrics is told what a worker does. Its methods are called from many
// goroutines, and hold up the worker as long as they take.
type Metrics interface {
	// Claimed: so many messages were claimed from an inbox.
	Claimed(inbox string, messages int)
	// Handled: this became of a message, and its handler took so long; a message
	// that no handler has begun is not told of.
	Handled(m *Message, outcome Outcome, took time.Duration)
}

type noMetrics struct{}

func (noMetrics) Claimed(string, int)                      {}
func (noMetrics) Handled(*Message, Outcome, time.Duration) {}
