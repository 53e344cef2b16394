package stdio

import (
	"bytes"
	"context"
	"errors"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// lines joins envelopes to text, a line each. It fails with *delivery.Partial
// when a body is no line.
func lines(envelopes []message.Envelope) ([]byte, error) {
	size := 0
	failed := map[int]error{}
	for i := range envelopes {
		size += len(envelopes[i].Body) + 1
		if bytes.IndexByte(envelopes[i].Body, '\n') >= 0 {
			failed[i] = delivery.Reject(errors.New("the event has a line break where none can be"))
		}
	}
	if len(failed) > 0 {
		return nil, &delivery.Partial{Failed: failed}
	}
	text := make([]byte, 0, size)
	for i := range envelopes {
		text = append(append(text, envelopes[i].Body...), '\n')
	}
	return text, nil
}

// writer does one thing at a time, and lets whoever asked for it go away
// before it is done: a pipe that nobody reads, or a disk that hangs, would keep
// a relay from ending. What was begun goes on to its end, so that lines stay whole.
type writer struct{ free chan struct{} }

func newWriter() *writer {
	w := &writer{free: make(chan struct{}, 1)}
	w.free <- struct{}{}
	return w
}

func (w *writer) do(ctx context.Context, write func() error) error {
	select {
	case <-w.free:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() {
		err := write()
		w.free <- struct{}{}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// written is the receipt of what was written already.
type written struct{}

// Wait returns nil.
func (written) Wait(context.Context) error { return nil }
