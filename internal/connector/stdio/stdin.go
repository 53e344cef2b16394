package stdio

import (
	"context"
	"errors"
	"sync"

	"github.com/pg-tide/pg-tide/internal/message"
)

// Stdin is a source that reads the standard input, a message a line.
type Stdin struct {
	input    *Input
	pipeline string

	mu sync.Mutex
	// open is closed at the end of the session; nil before the first.
	open chan struct{}
	// next is the number of the line that is delivered next.
	next uint64
}

// errNotOpen is what Fetch returns without a session.
var errNotOpen = errors.New("read standard input before the source was opened")

// NewStdin makes the source of a pipeline.
func NewStdin(input *Input, pipeline string) *Stdin { return &Stdin{input: input, pipeline: pipeline} }

// Open begins a session: what was delivered and not acknowledged comes again, first.
func (s *Stdin) Open(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	if err := s.input.claim(s); err != nil {
		return err
	}
	s.input.mu.Lock()
	first := s.input.first
	s.input.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.next = make(chan struct{}), first
	return nil
}

// Close ends the session and keeps what was not acknowledged.
func (s *Stdin) Close(context.Context) error {
	s.mu.Lock()
	if s.open != nil {
		close(s.open)
		s.open = nil
	}
	s.mu.Unlock()
	s.input.release(s)
	return nil
}

// Fetch returns the next lines. At the end of the input it waits until all of
// it is acknowledged, and then says that there is no more.
func (s *Stdin) Fetch(ctx context.Context, limit int) (message.Delivery, error) {
	s.mu.Lock()
	open, next := s.open, s.next
	s.mu.Unlock()
	if open == nil {
		return message.Delivery{}, errNotOpen
	}
	if envelopes := s.input.again(next, limit); len(envelopes) > 0 {
		return s.deliver(envelopes), nil
	}
	for {
		envelopes, ended := s.input.take(limit)
		switch {
		case len(envelopes) > 0:
			return s.deliver(envelopes), nil
		case ended:
			return message.Delivery{}, s.input.end(ctx, open)
		}
		select {
		case <-s.input.arrived:
		case <-open:
			return message.Delivery{}, errNotOpen
		case <-ctx.Done():
			return message.Delivery{}, context.Cause(ctx)
		}
	}
}

func (s *Stdin) deliver(envelopes []message.Envelope) message.Delivery {
	s.mu.Lock()
	s.next += uint64(len(envelopes))
	until := s.next
	s.mu.Unlock()
	return message.Delivery{Envelopes: envelopes, Acknowledge: func(context.Context) error {
		s.input.acknowledge(until)
		return nil
	}}
}
