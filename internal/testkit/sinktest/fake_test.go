package sinktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	natsgo "github.com/nats-io/nats.go"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	cloudevents "github.com/pg-tide/pg-tide/internal/testkit/cloudevents/nats"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// broken names what is wrong with a sink, or with its far end.
type broken string

const (
	nothing              broken = ""
	reorders             broken = "swaps two events of a batch"
	losesOne             broken = "loses an event"
	acknowledgesEarly    broken = "acknowledges what is in memory only"
	acknowledgesFrozen   broken = "acknowledges what the far end has not seen"
	resendsBehind        broken = "stores what was sent behind a gap"
	forgetsIDs           broken = "does not send the event id"
	dropsNothing         broken = "stores duplicates"
	sendsBeforeTooLarge  broken = "sends what stands before an event that is too large"
	failsWhole           broken = "fails the batch for one event"
	takesPoison          broken = "takes what must be refused"
	trimsBodies          broken = "changes bodies"
	refusesEmpty         broken = "refuses an empty body"
	losesHeaders         broken = "loses headers"
	ignoresDestination   broken = "sends everything to one place"
	worksUnopened        broken = "works before it was opened"
	worksClosed          broken = "works after it was closed"
	ignoresContext       broken = "opens with a context that has ended"
	opensFrozen          broken = "opens a far end that hangs"
	hangsOnOpen          broken = "opens until it works, whatever the context says"
	hangsOnClose         broken = "hangs in Close while the far end hangs"
	forgetsWaiters       broken = "leaves those who wait alone when it is closed"
	leaksGoroutine       broken = "leaves a goroutine"
	takesForever         broken = "takes events without end"
	wrongAttributes      broken = "writes CloudEvents attributes under other names"
	silentRefusal        broken = "says nothing about what is wrong"
	showsSecret          broken = "shows a secret"
	wrongVerdict         broken = "tries again what only a person can mend"
	noticesNoLoss        broken = "takes a far end that lost everything for whole"
	noticesNoCut         broken = "does not notice a lost connection"
	failsAfterSecondOpen broken = "cannot be opened again"
)

// far is a far end in memory. It is a fake, for what is tested with it is the
// suite, and a real broker cannot be made to break each promise by itself.
type far struct {
	fault broken

	mu       sync.Mutex
	stored   []message.Envelope
	volatile int // how many of them a kill would lose
	session  int // grows when connections break
	frozen   chan struct{}
}

const fakeMax = 2 << 20

func (f *far) hang() (thaw func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	frozen := make(chan struct{})
	f.frozen = frozen
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.frozen = nil
		close(frozen)
	}
}

func (f *far) breakConnections(testing.TB) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.session++
}

func (f *far) kill(t testing.TB) {
	f.breakConnections(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored = f.stored[:len(f.stored)-f.volatile]
	f.volatile = 0
}

func (f *far) lose(testing.TB) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored = nil
}

// await waits while the far end hangs. It is false when the context ends first.
func (f *far) await(ctx context.Context, closed <-chan struct{}) error {
	for {
		f.mu.Lock()
		frozen := f.frozen
		f.mu.Unlock()
		if frozen == nil {
			return ctx.Err()
		}
		select {
		case <-frozen:
		case <-closed:
			return errors.New("the sink was closed")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *far) store(session int, envelopes []message.Envelope) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if session != f.session {
		if f.fault == resendsBehind && len(envelopes) > 1 {
			f.stored = append(f.stored, envelopes[len(envelopes)-1])
		}
		return errors.New("the connection was lost")
	}
	for i := range envelopes {
		e := envelopes[i]
		known := slices.ContainsFunc(f.stored, func(s message.Envelope) bool { return s.EventID != "" && s.EventID == e.EventID })
		if known && f.fault != dropsNothing {
			continue
		}
		f.stored = append(f.stored, f.spoil(e))
	}
	if f.fault == acknowledgesEarly {
		f.volatile = len(envelopes)
	}
	return nil
}

// spoil is what becomes of an event on its way.
func (f *far) spoil(e message.Envelope) message.Envelope {
	switch f.fault {
	case forgetsIDs:
		e.EventID = ""
	case trimsBodies:
		if len(e.Body) > 20 {
			e.Body = e.Body[:20]
		}
	case losesHeaders:
		e.Headers = nil
	case ignoresDestination:
		e.Destination = "events.orders"
	case wrongAttributes:
		e.Headers = slices.Clone(e.Headers)
		for i := range e.Headers {
			if e.Headers[i].Name == "ce-source" || e.Headers[i].Name == "content-type" {
				e.Headers[i].Name = "x-other"
			}
		}
	}
	return e
}

// fakeSink is a right sink, but for one thing.
type fakeSink struct {
	far   *far
	fault broken
	wrong error // what Open says of the configuration

	mu      sync.Mutex
	open    bool
	opens   int
	session int
	pending int
	closed  chan struct{}
	last    *fakeReceipt
}

var (
	_ relay.Sink    = (*fakeSink)(nil)
	_ relay.Witness = (*fakeSink)(nil)
	_ relay.Watcher = (*fakeSink)(nil)
)

func (s *fakeSink) Mark() string {
	s.far.mu.Lock()
	defer s.far.mu.Unlock()
	return fmt.Sprint(len(s.far.stored))
}

func (s *fakeSink) Prove(_ context.Context, mark string) (delivery.Proof, error) {
	if now := s.Mark(); now != mark && s.fault != noticesNoLoss {
		return delivery.Proof{Lost: "it had " + mark + " and has " + now}, nil
	}
	return delivery.Proof{Holds: true}, nil
}

func (s *fakeSink) Watch(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s.far.mu.Lock()
		lost := s.session != s.far.session && s.fault != noticesNoCut
		s.far.mu.Unlock()
		if lost {
			return errors.New("the connection was lost")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *fakeSink) Open(ctx context.Context) error {
	if err := ctx.Err(); err != nil && s.fault != ignoresContext {
		return err
	}
	if s.wrong != nil {
		return s.wrong
	}
	_ = s.Close(ctx)
	if err := s.far.await(s.patience(ctx), nil); err != nil && s.fault != ignoresContext && s.fault != opensFrozen {
		return err
	}
	s.far.mu.Lock()
	session := s.far.session
	s.far.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens++; s.opens > 1 && s.fault == failsAfterSecondOpen {
		return errors.New("it is open")
	}
	s.open, s.session, s.closed, s.last, s.pending = true, session, make(chan struct{}), nil, 0
	if s.fault == leaksGoroutine {
		go func() { select {} }()
	}
	return nil
}

// patience is the context that Open listens to.
func (s *fakeSink) patience(ctx context.Context) context.Context {
	if s.fault == hangsOnOpen {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

func (s *fakeSink) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open && s.fault == hangsOnClose {
		_ = s.far.await(context.WithoutCancel(ctx), nil)
	}
	if s.open && s.fault != forgetsWaiters {
		close(s.closed)
	}
	s.open = false
	return nil
}

func (s *fakeSink) check(envelopes []message.Envelope) map[int]error {
	failed := map[int]error{}
	for i := range envelopes {
		switch e := &envelopes[i]; {
		case len(e.Body) >= fakeMax,
			len(e.Body) == 0 && s.fault == refusesEmpty,
			e.Header("poison") != "" && s.fault != takesPoison:
			failed[i] = delivery.Reject(errors.New("the event is refused"))
		}
	}
	return failed
}

func (s *fakeSink) Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open && s.fault != worksUnopened && (s.fault != worksClosed || s.opens == 0) {
		return nil, errors.New("the sink is not open")
	}
	if failed := s.check(envelopes); len(failed) > 0 {
		switch s.fault {
		case sendsBeforeTooLarge:
			_ = s.far.store(s.session, envelopes[:1])
		case failsWhole:
			return nil, delivery.Reject(errors.New("the batch is refused"))
		}
		return nil, &delivery.Partial{Failed: failed}
	}
	for i := range envelopes {
		s.pending += len(envelopes[i].Body)
	}
	if s.pending > 64<<20 && s.fault != takesForever {
		return nil, errors.New("nothing is acknowledged")
	}
	envelopes = slices.Clone(envelopes)
	if s.fault == reorders && len(envelopes) > 1 {
		envelopes[0], envelopes[1] = envelopes[1], envelopes[0]
	}
	if s.fault == losesOne && len(envelopes) > 1 {
		envelopes = envelopes[1:]
	}
	s.last = &fakeReceipt{sink: s, session: s.session, closed: s.closed, envelopes: envelopes, before: s.last}
	return s.last, nil
}

// fakeReceipt stores when it is waited for, behind those before it.
type fakeReceipt struct {
	sink      *fakeSink
	session   int
	closed    chan struct{}
	envelopes []message.Envelope
	before    *fakeReceipt

	mu   sync.Mutex
	done bool
}

func (r *fakeReceipt) Wait(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return nil
	}
	if r.sink.fault == acknowledgesFrozen {
		r.sink.far.mu.Lock()
		frozen := r.sink.far.frozen != nil
		r.sink.far.mu.Unlock()
		if frozen {
			return nil
		}
	}
	if r.before != nil {
		if err := r.before.Wait(ctx); err != nil {
			return err
		}
		r.before = nil
	}
	if r.sink.fault == forgetsWaiters {
		select {
		case <-r.closed: // never
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := r.sink.far.await(ctx, r.closed); err != nil {
		return err
	}
	if err := r.sink.far.store(r.session, r.envelopes); err != nil {
		return err
	}
	r.done = true
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	for i := range r.envelopes {
		r.sink.pending -= len(r.envelopes[i].Body)
	}
	return nil
}

func fakeFeatures() Features {
	return Features{Technology: "nats", DropsDuplicates: true, MaxBytes: fakeMax, Headers: true, EventIDs: true}
}

// fakeHarness is a far end and its sinks, all with one fault.
func fakeHarness(fault broken) Harness {
	f := &far{fault: fault}
	wrong := map[conformance.Need]func(t testing.TB) Refusal{}
	for _, need := range conformance.Refusals() {
		wrong[need] = func(testing.TB) Refusal {
			return Refusal{End: &fakeSink{far: f, wrong: fakeRefusal(need, fault)}, Says: []string{"set the key"}, Hides: []string{"hidden"}}
		}
	}
	stored := func() []message.Envelope {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Clone(f.stored)
	}
	return Harness{
		New:     func(testing.TB) relay.Sink { return &fakeSink{far: f, fault: fault} },
		Stored:  func(testing.TB) []message.Envelope { return stored() },
		Restart: f.kill, Kill: f.kill, Cut: f.breakConnections, Lose: f.lose,
		Freeze:      func(testing.TB) func() { return f.hang() },
		Poison:      func(e *message.Envelope) { e.Headers = append(e.Headers, message.Header{Name: "poison", Value: "1"}) },
		Wrong:       wrong,
		Destination: "events.orders.insert", Template: "events.orders.{op}",
		ReadEvents: func(t testing.TB) []event.Event {
			var all []event.Event
			for _, e := range stored() {
				m := &natsgo.Msg{Data: e.Body, Header: natsgo.Header{}}
				for _, h := range e.Headers {
					m.Header[h.Name] = []string{h.Value}
				}
				read, err := cloudevents.Read(context.Background(), m)
				if err != nil {
					t.Fatalf("read: %v", err)
				}
				all = append(all, *read)
			}
			return all
		},
	}
}

func fakeRefusal(need conformance.Need, fault broken) error {
	text := fmt.Sprintf("%s; set the key", need)
	switch fault {
	case silentRefusal:
		text = "connection failed"
	case showsSecret:
		text += " and not to hidden"
	}
	if need == conformance.Unreachable || fault == wrongVerdict {
		return errors.New(text)
	}
	return delivery.Misconfigured(errors.New(text))
}
