package relay

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// fakeBroker is a stream in memory that several connections write to. What a
// connection sent travels in its pipe, in order, at a pace of its own, also
// after the connection was lost: the server reads what had reached it.
type fakeBroker struct {
	mu     sync.Mutex
	known  map[string]bool
	stored []string // each event once, in the order of arrival
	pipes  []*fakePipe
	dice   func() int // nil: everything arrives at once
	// refuses says whether an event is refused by its receipt, takes whether
	// the sink takes it at all; either may be nil.
	refuses, takes func(id string) bool
	// hangs says whether an event stays unacknowledged for ever; may be nil.
	hangs func(id string) bool
	// breaks is asked with each send and each receipt; may be nil.
	breaks func() bool
	opened int
}

func newBroker() *fakeBroker { return &fakeBroker{known: map[string]bool{}} }

// fakePipe is one connection.
type fakePipe struct {
	broker   *fakeBroker
	waiting  []string
	arrived  int // of all that was sent
	sent     int
	refusals map[string]bool
	broken   bool
}

// fakeLaneSink is the sink of one lane.
type fakeLaneSink struct {
	broker *fakeBroker
	pipe   *fakePipe
}

// sinks returns the sinks of n lanes.
func (b *fakeBroker) sinks(n int) (first Sink, others []Sink) {
	for range n - 1 {
		others = append(others, &fakeLaneSink{broker: b})
	}
	return &fakeLaneSink{broker: b}, others
}

func (s *fakeLaneSink) Open(context.Context) error {
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	s.pipe = &fakePipe{broker: s.broker, refusals: map[string]bool{}}
	s.broker.pipes = append(s.broker.pipes, s.pipe)
	s.broker.opened++
	return nil
}

func (s *fakeLaneSink) Close(context.Context) error { return nil }

func (s *fakeLaneSink) Send(_ context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	b, pipe := s.broker, s.pipe
	b.mu.Lock()
	defer b.mu.Unlock()
	failed := map[int]error{}
	var ids []string
	for i := range envelopes {
		ids = append(ids, envelopes[i].EventID)
		if b.takes != nil && !b.takes(envelopes[i].EventID) {
			failed[i] = delivery.Reject(errors.New("too large"))
		}
	}
	if len(failed) > 0 {
		return nil, &delivery.Partial{Failed: failed}
	}
	pipe.broken = pipe.broken || b.breaks != nil && b.breaks()
	if pipe.broken {
		return nil, errAway
	}
	pipe.waiting = append(pipe.waiting, ids...)
	pipe.sent += len(ids)
	b.traffic()
	return &fakeLaneReceipt{pipe: pipe, ids: ids, end: pipe.sent}, nil
}

// traffic lets some of what is on its way arrive, of any connection.
func (b *fakeBroker) traffic() {
	for _, pipe := range b.pipes {
		n := len(pipe.waiting)
		if b.dice != nil {
			n = min(n, b.dice())
		}
		pipe.arrive(n)
	}
}

func (p *fakePipe) arrive(n int) {
	for _, id := range p.waiting[:n] {
		p.arrived++
		switch {
		case p.broker.known[id]:
		case p.broker.refuses != nil && p.broker.refuses(id):
			p.refusals[id] = true
			continue
		default:
			p.broker.known[id] = true
			p.broker.stored = append(p.broker.stored, id)
		}
		delete(p.refusals, id)
	}
	p.waiting = p.waiting[n:]
}

type fakeLaneReceipt struct {
	pipe *fakePipe
	ids  []string
	end  int
}

func (r *fakeLaneReceipt) Wait(ctx context.Context) error {
	b := r.pipe.broker
	b.mu.Lock()
	hangs := b.hangs != nil && slices.ContainsFunc(r.ids, b.hangs)
	b.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.pipe.broken = r.pipe.broken || b.breaks != nil && b.breaks()
	if r.pipe.broken {
		return errAway
	}
	r.pipe.arrive(max(0, r.end-r.pipe.arrived))
	failed := map[int]error{}
	for i, id := range r.ids {
		if r.pipe.refusals[id] {
			failed[i] = delivery.Reject(errors.New("too bad"))
		}
	}
	if len(failed) > 0 {
		return &delivery.Partial{Failed: failed}
	}
	return nil
}

func (b *fakeBroker) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.stored)
}
