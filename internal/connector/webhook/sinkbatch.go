package webhook

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"

	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	batchEventsKey     = "batch_max_events"
	defaultBatchEvents = 100
	mostBatchEvents    = 1000
	// defaultBatchBytes bounds a batch unless max_body_bytes does: many servers
	// take no more.
	defaultBatchBytes = 1 << 20
	// bracketBytes is what the list of a batch has besides events and commas.
	bracketBytes = len("[]")
)

// batching says how many events may share a request.
type batching struct{ events, bytes int }

func newBatching(values SinkValues, maxBody int) *batching {
	b := &batching{events: int(values.Int(batchEventsKey)), bytes: maxBody}
	if b.events < 1 {
		b.events = defaultBatchEvents
	}
	if b.bytes < 1 {
		b.bytes = defaultBatchBytes
	}
	return b
}

// take makes a request of the event that is ready first, and in batches of its
// neighbours: those behind it, in the order in which they were queued, that go
// to the same place, up to the first that does not. Events whose key is out are
// not among them; an event whose predecessor of its key is in the same request
// is. The lock is held, and something is ready.
func (s *sinkSession) take() []*parcel {
	load := []*parcel{s.ready[0]}
	s.ready = s.ready[1:]
	rule := s.sink.batching
	if rule == nil {
		return load
	}
	bytes := bracketBytes + len(load[0].envelope.Body)
	var next []*parcel // the next event of each group in load
	for p := load[0]; ; {
		next = s.follow(next, p)
		switch {
		case len(next) > 0 && (len(s.ready) == 0 || next[0].number < s.ready[0].number):
			p = next[0]
		case len(s.ready) > 0:
			p = s.ready[0]
		default:
			return load
		}
		bytes += len(",") + len(p.envelope.Body)
		if len(load) == rule.events || bytes > rule.bytes || p.envelope.Destination != load[0].envelope.Destination {
			return load
		}
		load = append(load, p)
		if len(next) > 0 && p == next[0] {
			next = next[1:]
			name, _ := s.group(p)
			s.behind[name] = s.behind[name][1:]
		} else {
			s.ready = s.ready[1:]
		}
	}
}

// follow adds to next, which is in order, the event behind p in its group.
func (s *sinkSession) follow(next []*parcel, p *parcel) []*parcel {
	name, alone := s.group(p)
	if alone || len(s.behind[name]) == 0 {
		return next
	}
	return inOrder(next, s.behind[name][0])
}

// place makes an event ready: at the end, so that keys take turns, and in
// batches where it was queued, so that neighbours share a request. After a
// failure nothing is sent any more. The lock is held.
func (s *sinkSession) place(p *parcel) {
	if s.sink.batching == nil || s.failed != nil {
		s.ready = append(s.ready, p)
		return
	}
	s.ready = inOrder(s.ready, p)
}

func inOrder(line []*parcel, p *parcel) []*parcel {
	at, _ := slices.BinarySearchFunc(line, p.number, func(q *parcel, number int) int { return cmp.Compare(q.number, number) })
	return slices.Insert(line, at, p)
}

// check says, before anything is sent, what can never be, of an event that is
// alone in its request.
func (s *Sink) check(e *message.Envelope) error {
	bytes := len(e.Body)
	if s.batching != nil {
		bytes += bracketBytes
	}
	return s.sender.check(bytes, e.Destination)
}

// requestOf is what is posted for the events of a request.
func (s *Sink) requestOf(load []*parcel) *message.Envelope {
	if s.batching == nil {
		return &load[0].envelope
	}
	size := bracketBytes + len(load) - 1
	for _, p := range load {
		size += len(p.envelope.Body)
	}
	body := append(make([]byte, 0, size), '[')
	for i, p := range load {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, p.envelope.Body...)
	}
	return &message.Envelope{Destination: load[0].envelope.Destination, EventID: requestID(load),
		Headers: []message.Header{{Name: "Content-Type", Value: batchOfEvents}}, Body: append(body, ']')}
}

// requestID is the same whenever the same events are sent together: that of a
// single event, else a hash of them all.
func requestID(load []*parcel) string {
	if len(load) == 1 {
		return load[0].envelope.EventID
	}
	sum := sha256.New()
	for _, p := range load {
		_, _ = io.WriteString(sum, p.envelope.EventID+"\n") // a hash takes everything
	}
	return "batch_" + hex.EncodeToString(sum.Sum(nil)[:16])
}
