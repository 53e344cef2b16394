package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	cloudevents "github.com/pg-tide/pg-tide/internal/testkit/cloudevents/nats"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// broken names what is wrong with a source, or with its far end.
type broken string

const (
	nothing           broken = ""
	reorders          broken = "swaps two messages of a batch"
	losesOne          broken = "loses a message"
	ignoresLimit      broken = "delivers more than it was asked for"
	forgetsAcks       broken = "forgets what was acknowledged"
	skipsUnacked      broken = "goes on behind what was not acknowledged"
	renamesAgain      broken = "gives a message other coordinates each time"
	losesIDs          broken = "does not read the message id"
	trimsBodies       broken = "changes bodies"
	skipsEmpty        broken = "passes over empty bodies"
	losesHeaders      broken = "loses headers"
	losesOrigin       broken = "does not know where a message comes from"
	ignoresContext    broken = "waits on when the context has ended"
	opensAnyway       broken = "opens with a context that has ended"
	worksUnopened     broken = "works before it was opened"
	worksClosed       broken = "works after it was closed"
	cannotOpenAgain   broken = "cannot be opened again"
	sleepsOn          broken = "does not wake who waits when it is closed"
	opensFrozen       broken = "opens a far end that hangs"
	hangsOnClose      broken = "hangs in Close while the far end hangs"
	leaksGoroutine    broken = "leaves a goroutine"
	deliversForever   broken = "delivers without end while nothing is acknowledged"
	hoards            broken = "reads all of a backlog ahead"
	losesAttributes   broken = "loses CloudEvents attributes"
	silentRefusal     broken = "says nothing about what is wrong"
	showsSecret       broken = "shows a secret"
	wrongVerdict      broken = "tries again what only a person can mend"
	fakeUnacknowledge        = 100
)

// far is a far end in memory, with the place of its only reader. It is a fake,
// for what is tested with it is the suite.
type far struct {
	fault broken

	mu      sync.Mutex
	log     []message.Envelope
	acked   int // all before it are acknowledged
	deliver int // next to be delivered
	session int // grows when connections break
	names   int
	changed chan struct{} // closed when anything changes
	frozen  bool
}

// change does something to the far end and wakes all who wait.
func (f *far) change(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *far) breakConnections(testing.TB) { f.change(func() { f.session++ }) }

func (f *far) hang(testing.TB) (thaw func()) {
	f.change(func() { f.frozen = true })
	return func() { f.change(func() { f.frozen = false }) }
}

// await waits while the far end hangs.
func (f *far) await(ctx context.Context) error {
	for {
		f.mu.Lock()
		frozen, changed := f.frozen, f.changed
		f.mu.Unlock()
		if !frozen {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *far) publish(envelopes []message.Envelope) {
	f.change(func() {
		for _, e := range envelopes {
			e.Time, e.Coordinates = time.Now(), fmt.Sprintf("fake:%d", len(f.log)+1)
			f.log = append(f.log, e)
		}
	})
}

// fakeSource is a right source, but for one thing.
type fakeSource struct {
	far   *far
	fault broken
	wrong error

	mu      sync.Mutex
	open    bool
	opens   int
	session int
	closed  chan struct{}
	hoard   [][]byte
}

var _ relay.Source = (*fakeSource)(nil)

func (s *fakeSource) Open(ctx context.Context) error {
	if err := ctx.Err(); err != nil && s.fault != opensAnyway {
		return err
	}
	if s.wrong != nil {
		return s.wrong
	}
	_ = s.Close(ctx)
	if err := s.far.await(ctx); err != nil && s.fault != opensFrozen && s.fault != opensAnyway {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens++; s.opens > 1 && s.fault == cannotOpenAgain {
		return errors.New("it is open")
	}
	s.far.mu.Lock()
	defer s.far.mu.Unlock()
	switch s.fault {
	case forgetsAcks:
		s.far.acked, s.far.deliver = 0, 0
	case skipsUnacked:
	case hoards:
		for i := range s.far.log {
			s.hoard = append(s.hoard, bytes.Clone(s.far.log[i].Body))
		}
		s.far.deliver = s.far.acked
	default:
		s.far.deliver = s.far.acked
	}
	s.far.session++ // one reader: the earlier session is over
	s.open, s.session, s.closed = true, s.far.session, make(chan struct{})
	if s.fault == leaksGoroutine {
		go func() { select {} }()
	}
	return nil
}

func (s *fakeSource) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.open && s.fault == hangsOnClose {
		s.far.mu.Lock()
		frozen, changed := s.far.frozen, s.far.changed
		s.far.mu.Unlock()
		if !frozen {
			break
		}
		<-changed
	}
	if s.open && s.fault != sleepsOn {
		close(s.closed)
	}
	s.open = false
	return nil
}

func (s *fakeSource) Fetch(ctx context.Context, limit int) (message.Delivery, error) {
	s.mu.Lock()
	open, session, closed := s.open, s.session, s.closed
	if s.fault == worksUnopened && s.opens == 0 {
		s.mu.Unlock()
		return message.Delivery{}, nil
	}
	if s.fault == worksClosed && !open && s.opens > 0 {
		s.mu.Unlock()
		return message.Delivery{}, nil
	}
	s.mu.Unlock()
	if !open {
		return message.Delivery{}, errors.New("the source is not open")
	}
	done := ctx.Done()
	if s.fault == ignoresContext {
		done = nil
	}
	for {
		s.far.mu.Lock()
		got, changed, err := s.far.next(session, limit, s.fault), s.far.changed, error(nil)
		if session != s.far.session {
			err = errors.New("the connection was lost")
		}
		s.far.mu.Unlock()
		switch {
		case err != nil:
			return message.Delivery{}, err
		case len(got) > 0:
			return s.deliver(session, got), nil
		}
		select {
		case <-changed:
		case <-closed:
			return message.Delivery{}, errors.New("the source was closed")
		case <-done:
			return message.Delivery{}, ctx.Err()
		}
	}
}

// next is what can be delivered now. The lock is held.
func (f *far) next(session, limit int, fault broken) []message.Envelope {
	if session != f.session || f.frozen {
		return nil
	}
	if fault == ignoresLimit {
		limit *= 3
	}
	if room := fakeUnacknowledge - (f.deliver - f.acked); fault != deliversForever {
		limit = min(limit, room)
	}
	end := min(f.deliver+limit, len(f.log))
	got := slices.Clone(f.log[f.deliver:end])
	f.deliver = end
	return got
}

func (s *fakeSource) deliver(session int, got []message.Envelope) message.Delivery {
	s.far.mu.Lock()
	upTo := s.far.deliver
	s.far.mu.Unlock()
	for i := range got {
		s.spoil(&got[i])
	}
	switch {
	case s.fault == reorders && len(got) > 1:
		got[0], got[1] = got[1], got[0]
	case s.fault == losesOne && len(got) > 1:
		got = got[1:]
	case s.fault == skipsEmpty:
		got = slices.DeleteFunc(got, func(e message.Envelope) bool { return len(e.Body) == 0 })
	}
	return message.Delivery{Envelopes: got, Acknowledge: func(context.Context) error {
		var err error
		s.far.change(func() {
			if session != s.far.session {
				err = errors.New("the connection was lost")
				return
			}
			s.far.acked = max(s.far.acked, upTo)
		})
		return err
	}}
}

// spoil is what becomes of a message on its way.
func (s *fakeSource) spoil(e *message.Envelope) {
	switch s.fault {
	case renamesAgain:
		s.far.mu.Lock()
		s.far.names++
		e.Coordinates = fmt.Sprintf("fake:%d", s.far.names)
		s.far.mu.Unlock()
	case losesIDs:
		e.EventID = ""
	case trimsBodies:
		e.Body = e.Body[:min(20, len(e.Body))]
	case losesHeaders:
		e.Headers = nil
	case losesOrigin:
		e.Destination, e.Time = "", time.Time{}
	case losesAttributes:
		e.Headers = slices.DeleteFunc(slices.Clone(e.Headers), func(h message.Header) bool { return h.Name == "ce-subject" })
		e.Body = bytes.Replace(e.Body, []byte(`"subject"`), []byte(`"object"`), 1)
	}
}

func fakeFeatures() Features {
	return Features{Technology: "nats", Headers: true, MessageIDs: true, MaxUnacknowledged: fakeUnacknowledge}
}

// fakeHarness is a far end and its source, with one fault.
func fakeHarness(fault broken) Harness {
	const destination = "events.orders.insert"
	f := &far{fault: fault, changed: make(chan struct{})}
	wrong := map[conformance.Need]func(t testing.TB) Refusal{}
	for _, need := range conformance.Refusals() {
		wrong[need] = func(testing.TB) Refusal {
			return Refusal{End: &fakeSource{far: f, wrong: fakeRefusal(need, fault)}, Says: []string{"set the key"}, Hides: []string{"hidden"}}
		}
	}
	return Harness{
		New:     func(testing.TB) relay.Source { return &fakeSource{far: f, fault: fault} },
		Publish: func(_ testing.TB, envelopes []message.Envelope) { f.publish(envelopes) },
		Crash:   func(t testing.TB, _ relay.Source) { f.breakConnections(t) },
		Restart: f.breakConnections, Kill: f.breakConnections, Cut: f.breakConnections, Freeze: f.hang,
		Destination: destination, Wrong: wrong,
		WriteEvents: func(t testing.TB, events []event.Event, structured bool) {
			for i := range events {
				m, err := cloudevents.Write(context.Background(), destination, &events[i], structured)
				if err != nil {
					t.Fatal(err)
				}
				e := message.Envelope{Destination: destination, Body: m.Data}
				for name, values := range m.Header {
					e.Headers = append(e.Headers, message.Header{Name: name, Value: values[0]})
				}
				f.publish([]message.Envelope{e})
			}
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
