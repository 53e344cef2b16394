package webhook

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/run"
)

// mostQueuedBytes bounds the bodies that are queued or out.
const mostQueuedBytes = 32 << 20

// parcel is one envelope on its way.
type parcel struct {
	envelope message.Envelope
	receipt  *sinkReceipt
	index    int
	// number counts the envelopes of a session.
	number int
}

// sinkSession sends what was queued since the sink was opened. Nothing of a
// group is out in two requests: with one request at a time there is one group,
// and else one for each key.
type sinkSession struct {
	sink *Sink
	most int
	// spawn runs work in a goroutine whose context ends with the session.
	spawn  func(work func(ctx context.Context))
	cancel context.CancelCauseFunc
	out    sync.WaitGroup

	// freed gets a signal when an event is settled.
	freed chan struct{}

	mu      sync.Mutex
	bytes   int // of the bodies that are queued or out
	queued  int // counts the envelopes
	ready   []*parcel
	running int
	behind  map[string][]*parcel // of groups that have one ready or out
	// stopped are the keys of events that were refused, until their receipts say so.
	stopped map[string]*parcel
	// taken counts what the service took.
	taken int
	// failed ends the session: nothing more is posted.
	failed error
}

func newSinkSession(ctx context.Context, sink *Sink) *sinkSession {
	// The call that opened the session is over soon; the session is not.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &sinkSession{sink: sink, most: sink.sender.Concurrency(), cancel: cancel,
		freed: make(chan struct{}, 1), behind: map[string][]*parcel{}, stopped: map[string]*parcel{}}
	s.spawn = func(work func(ctx context.Context)) {
		s.out.Add(1)
		run.Start(ctx, func(_, ctx context.Context) error {
			defer s.out.Done()
			work(ctx)
			return nil
		})
	}
	return s
}

// end cuts off everything and waits for it.
func (s *sinkSession) end() {
	s.cancel(errSessionEnded)
	s.mu.Lock()
	s.fail(errSessionEnded)
	s.mu.Unlock()
	s.out.Wait()
}

// add queues envelopes once there is room for them. Where there are none others
// there is, however large they are.
func (s *sinkSession) add(ctx context.Context, envelopes []message.Envelope) (*sinkReceipt, error) {
	r := &sinkReceipt{session: s, done: make(chan struct{}), left: len(envelopes), failed: map[int]error{}}
	if len(envelopes) == 0 {
		close(r.done)
		return r, nil
	}
	bytes := 0
	for i := range envelopes {
		bytes += len(envelopes[i].Body)
	}
	for !s.admit(envelopes, bytes, r) {
		select {
		case <-s.freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return r, nil
}

func (s *sinkSession) admit(envelopes []message.Envelope, bytes int, r *sinkReceipt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes > 0 && s.bytes+bytes > mostQueuedBytes {
		return false
	}
	s.bytes += bytes
	for i := range envelopes {
		s.queued++
		s.queue(&parcel{envelope: envelopes[i], receipt: r, index: i, number: s.queued})
	}
	s.pump()
	return true
}

// group names what an event keeps its order with; alone says that it has none.
func (s *sinkSession) group(p *parcel) (name string, alone bool) {
	if s.most == 1 {
		return "", false
	}
	return p.envelope.Key, p.envelope.Key == ""
}

// queue puts an event behind those of its group. The lock is held.
func (s *sinkSession) queue(p *parcel) {
	name, alone := s.group(p)
	waiting, busy := s.behind[name]
	switch first := s.stopped[p.envelope.Key]; {
	case first != nil:
		s.note(p, heldBehind(first))
	case alone:
		s.ready = append(s.ready, p)
	case busy:
		s.behind[name] = append(waiting, p)
	default:
		s.behind[name] = nil
		s.ready = append(s.ready, p)
	}
}

// pump starts requests. The lock is held.
func (s *sinkSession) pump() {
	for s.running < s.most && len(s.ready) > 0 {
		if s.failed != nil {
			s.fail(s.failed)
			return
		}
		load := s.take()
		s.running++
		s.spawn(func(ctx context.Context) {
			var outcomes []error
			err := run.Protect(func() error {
				outcomes = s.deliver(ctx, load)
				return nil
			})
			s.mu.Lock()
			defer s.mu.Unlock()
			s.running--
			if err != nil {
				s.fail(err)
				outcomes = slices.Repeat([]error{err}, len(load))
			}
			s.settle(load, outcomes)
			s.pump()
		})
	}
}

// settle notes what became of the events of a request, and lets the next of
// their groups go. The lock is held.
func (s *sinkSession) settle(load []*parcel, outcomes []error) {
	for i, p := range load {
		if isRefusal(outcomes[i]) {
			s.hold(p)
		}
		s.note(p, outcomes[i])
	}
	freed := make(map[string]bool, len(load))
	for _, p := range load {
		if name, alone := s.group(p); !alone && !freed[name] {
			freed[name] = true
			s.free(name)
		}
	}
}

// free lets the next of a group go. The lock is held.
func (s *sinkSession) free(name string) {
	waiting := s.behind[name]
	if len(waiting) == 0 {
		delete(s.behind, name)
		return
	}
	s.behind[name] = waiting[1:]
	s.place(waiting[0])
}

// note gives an event's outcome to its receipt. The lock is held.
func (s *sinkSession) note(p *parcel, err error) {
	s.bytes -= len(p.envelope.Body)
	select {
	case s.freed <- struct{}{}:
	default: // a signal is waiting already
	}
	if err != nil {
		p.receipt.failed[p.index] = err
	}
	p.receipt.left--
	if p.receipt.left == 0 {
		close(p.receipt.done)
	}
}

// hold keeps back the events of a key whose first was refused, those queued and
// those that come before somebody was told. Without it: two events of a key are
// queued, the first is refused and the second taken; then the first is tried
// again, and taken behind it. The lock is held.
func (s *sinkSession) hold(first *parcel) {
	key := first.envelope.Key
	if key == "" {
		return
	}
	s.stopped[key] = first
	name, _ := s.group(first)
	waiting := s.behind[name]
	left := make([]*parcel, 0, len(waiting))
	for _, p := range waiting {
		if p.envelope.Key == key {
			s.note(p, heldBehind(first))
			continue
		}
		left = append(left, p)
	}
	s.behind[name] = left
}

func heldBehind(first *parcel) error {
	return delivery.Held(fmt.Errorf("it waits behind event %s of its key, which was refused", first.envelope.EventID))
}

// release lets the keys go whose refusals the receipt has told.
func (s *sinkSession) release(r *sinkReceipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, first := range s.stopped {
		if first.receipt == r {
			delete(s.stopped, key)
		}
	}
}

// fail ends the session: what is queued is not sent. What is out comes in.
// The lock is held.
func (s *sinkSession) fail(err error) {
	if s.failed == nil {
		s.failed = err
	}
	for len(s.ready) > 0 {
		p := s.ready[0]
		s.ready = s.ready[1:]
		s.settle([]*parcel{p}, []error{s.failed})
	}
}
