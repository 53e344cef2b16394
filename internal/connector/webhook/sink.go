package webhook

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Sink posts envelopes to one service: in order, or with a concurrency above
// one in the order of each key.
type Sink struct {
	sender *Sender
	// batching says how many events share a request; nil where each has its own.
	batching *batching

	mu      sync.Mutex
	session *sinkSession
	owns    func() error
}

// SinkDeps is what the sink is told besides its configuration.
type SinkDeps struct {
	// Templates are all that destinations are made by.
	Templates []string
	// Batches says that envelopes are CloudEvents in structured mode, and that
	// several go in one request.
	Batches bool
}

// NewSink checks the configuration and connects to nothing.
func NewSink(values SinkValues, deps SinkDeps) (*Sink, error) {
	sender, err := NewSender(values)
	if err != nil {
		return nil, err
	}
	sender.ownPaths = len(deps.Templates) > 1 || slices.ContainsFunc(deps.Templates, func(t string) bool { return strings.Contains(t, "{") })
	s := &Sink{sender: sender}
	switch {
	case deps.Batches:
		sender.batches = true
		s.batching = newBatching(values, sender.settings.maxBody)
	case values.Has(batchEventsKey):
		return nil, misconfigured("%s is given, and wire_format asks for a request for each event; set wire_format to cloudevents_batch, or leave %s out", batchEventsKey, batchEventsKey)
	}
	return s, nil
}

// Guard sets what is asked before each request: nil while the relay still
// owns the pipeline.
func (s *Sink) Guard(owns func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owns = owns
}

// Open begins a session. HTTP has nothing to connect to before there is an
// event, so that a service that is away shows with the first.
func (s *Sink) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.sender.Open(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = newSinkSession(ctx, s)
	return nil
}

// Send queues the envelopes, and waits for nothing but room; an envelope that is
// too large is refused before anything was sent.
func (s *Sink) Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	s.mu.Lock()
	session := s.session
	s.mu.Unlock()
	if session == nil {
		return nil, errNotOpen
	}
	failed := map[int]error{}
	for i := range envelopes {
		if err := s.check(&envelopes[i]); err != nil {
			failed[i] = err
		}
	}
	if len(failed) > 0 {
		return nil, &delivery.Partial{Failed: failed}
	}
	receipt, err := session.add(ctx, envelopes)
	if err != nil {
		return nil, err
	}
	return receipt, nil
}

// Close cuts off the requests that are out and waits for their end.
func (s *Sink) Close(context.Context) error {
	s.mu.Lock()
	session := s.session
	s.session = nil
	s.mu.Unlock()
	if session != nil {
		session.end()
	}
	s.sender.Close()
	return nil
}

// ask says whether the relay may still send.
func (s *Sink) ask() error {
	s.mu.Lock()
	owns := s.owns
	s.mu.Unlock()
	if owns == nil {
		return nil
	}
	return owns()
}

// sinkReceipt stands for the envelopes of one Send.
type sinkReceipt struct {
	session *sinkSession
	done    chan struct{} // closed when all are settled

	// guarded by the session's lock until done is closed
	left   int
	failed map[int]error
}

// Ready is closed once Wait has its answer. Nothing bounds that as a whole:
// each request has a bound, and so has the number of its repetitions.
func (r *sinkReceipt) Ready() <-chan struct{} { return r.done }

// Wait returns nil once the service has all envelopes, and else
// *delivery.Partial. Who has been told of a refusal knows what to send next.
func (r *sinkReceipt) Wait(ctx context.Context) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if len(r.failed) > 0 {
		r.session.release(r)
		return &delivery.Partial{Failed: r.failed}
	}
	return nil
}

var errSessionEnded = errors.New("the session with the service has ended")
