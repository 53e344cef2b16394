package relay

import (
	"context"
	"errors"
	"sync"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/run"
)

// reverse is one session of a reverse pipeline: it moves messages from the
// source to the inbox, and acknowledges what is committed and nothing else.
type reverse struct {
	session
	stopIntake context.CancelFunc
	fetched    chan message.Delivery
	committed  chan message.Delivery
	// inserting guards the inbox, since letters are retried beside the flow.
	inserting sync.Mutex
	// held is the error that ends the session after what was committed is acknowledged.
	held error
}

func newReverse(s session) *reverse {
	return &reverse{
		session:   s,
		fetched:   make(chan message.Delivery, 1),
		committed: make(chan message.Delivery, 1),
	}
}

// run works as that of a forward session does.
func (r *reverse) run(intake, work context.Context) error {
	defer r.close(work, r.plan.Source, r.plan.Inbox)
	if err := r.resume(work); err != nil {
		return err
	}
	if err := r.call(work, farEnd, "open the source", r.plan.Source.Open); err != nil {
		return err
	}
	if err := r.readHolds(work); err != nil {
		return err
	}
	intake, r.stopIntake = context.WithCancel(intake)
	defer r.stopIntake()
	err := run.Together(work,
		func(ctx context.Context) error { return r.fetch(both(ctx, intake)) },
		func(ctx context.Context) error { return r.store(ctx, intake) },
		r.acknowledge,
		func(ctx context.Context) error { return r.settle(both(ctx, intake)) },
		func(ctx context.Context) error { return r.retryLetters(both(ctx, intake), r.reinsert) },
	)
	return worse(err, r.held)
}

// fetch fetches ahead. Its context ends when intake is done.
func (r *reverse) fetch(ctx context.Context) error {
	defer close(r.fetched)
	for ctx.Err() == nil {
		d, err := r.plan.Source.Fetch(ctx, r.limits.BatchSize)
		if err != nil {
			if errors.Is(context.Cause(ctx), run.ErrStopped) {
				return nil
			}
			return &sideError{side: farEnd, err: err}
		}
		select {
		case r.fetched <- d:
		case <-ctx.Done():
		}
	}
	return nil
}

// store makes deliveries durable, one after another.
func (r *reverse) store(ctx, intake context.Context) error {
	defer close(r.committed)
	pace := both(ctx, intake)
	for d := range r.fetched {
		if len(r.holds.keys) > 0 && r.holds.stale.Load() {
			if err := r.readHolds(ctx); err != nil {
				return err
			}
		}
		if r.memory.limiter.Wait(pace, len(d.Envelopes)) != nil {
			return nil // it was not inserted, so it is not acknowledged and comes again
		}
		if fault.Mutant(fault.AcknowledgeBeforeInsert) {
			_ = d.Acknowledge(ctx) // and what if the insert fails?
			d.Acknowledge = nil
		}
		var block *blockedError
		switch err := r.storeDelivery(ctx, &d); {
		case err == nil:
		case errors.As(err, &block):
			r.held = err
			r.stopIntake()
			return nil
		default:
			return err
		}
		select {
		case r.committed <- d:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// sorted is a delivery after decoding and changing.
type sorted struct {
	messages []message.Message
	// places are the indices in the delivery of messages.
	places   []int
	letters  []placed
	filtered int
}

func (r *reverse) storeDelivery(ctx context.Context, d *message.Delivery) error {
	s, block, err := r.sort(d)
	if err != nil {
		return err
	}
	fault.At(fault.ReverseAfterDecode)
	inserted, err := r.insertAll(ctx, d, s, &block)
	if err != nil {
		return err
	}
	if err := r.addLetters(ctx, inOrder(s.letters)); err != nil {
		return err
	}
	r.health.count(inserted, s.filtered, 0)
	if block != nil {
		r.health.count(0, 0, 1)
		return block
	}
	r.progress()
	return nil
}

// sort decodes and changes the envelopes. Under the policy block it ends in
// front of the first that fails.
func (r *reverse) sort(d *message.Delivery) (s *sorted, block, err error) {
	s = &sorted{}
	for i := range d.Envelopes {
		m, err := r.plan.Codec.Decode(&d.Envelopes[i])
		var changed message.Message
		keep := false
		if err == nil {
			if r.holds.has(m.Key) {
				s.putAway(&r.session, d, i, m, parked(m.Key), 0)
				continue
			}
			changed, keep, err = r.change(m)
		}
		switch {
		case err != nil && !isRefusal(err):
			return s, nil, err
		case err != nil && r.limits.OnError == pipeline.Block:
			return s, blocked(named(m, &d.Envelopes[i]), err), nil
		case err != nil:
			s.putAway(&r.session, d, i, m, err, 1)
		case !keep:
			s.filtered++
		default:
			s.messages = append(s.messages, changed)
			s.places = append(s.places, i)
		}
	}
	return s, nil, nil
}

// putAway makes a message of the delivery a dead letter, with its bytes.
func (s *sorted) putAway(of *session, d *message.Delivery, i int, m message.Message, err error, attempts int) {
	e := &d.Envelopes[i]
	m = *named(m, e)
	of.hold(m.Key)
	s.letters = append(s.letters, placed{place: i, DeadLetter: message.DeadLetter{
		Message:          m,
		Body:             e.Body,
		TransportHeaders: e.Headers,
		Coordinates:      e.Coordinates,
		Error:            err.Error(),
		Attempts:         attempts,
	}})
}

// named fills in from the envelope what a message that could not be decoded lacks.
func named(m message.Message, e *message.Envelope) *message.Message {
	set(&m.EventID, e.EventID)
	set(&m.Key, e.Key)
	set(&m.Destination, e.Destination)
	if m.Time.IsZero() {
		m.Time = e.Time
	}
	return &m
}

// insertAll inserts the messages; those that the inbox can never take become
// dead letters, or the first of them blocks, and the rest is offered again.
func (r *reverse) insertAll(ctx context.Context, d *message.Delivery, s *sorted, block *error) (int, error) {
	for len(s.messages) > 0 {
		inserted, err := r.insert(ctx, s.messages)
		if err == nil {
			return inserted, nil
		}
		partial, ok := partialOf(err, len(s.messages))
		if partial == nil {
			return 0, err
		}
		if !ok || !allRejected(partial) {
			return 0, &sideError{side: database, err: blame(partial)}
		}
		if r.limits.OnError == pipeline.Block {
			first, _ := partial.First()
			*block = blocked(&s.messages[first], partial.Failed[first])
			s.messages, s.places = s.messages[:first], s.places[:first]
			continue
		}
		r.takeOut(d, s, partial)
	}
	return 0, nil
}

// takeOut moves refused messages to the letters, and with them those behind
// them whose key that parks.
func (r *reverse) takeOut(d *message.Delivery, s *sorted, partial *delivery.Partial) {
	all, places := s.messages, s.places
	s.messages, s.places = nil, nil
	for i := range all {
		if err, refused := partial.Failed[i]; refused {
			s.putAway(&r.session, d, places[i], all[i], err, 1)
			continue
		}
		if r.holds.has(all[i].Key) {
			s.putAway(&r.session, d, places[i], all[i], parked(all[i].Key), 0)
			continue
		}
		s.messages = append(s.messages, all[i])
		s.places = append(s.places, places[i])
	}
}

func (r *reverse) insert(ctx context.Context, messages []message.Message) (inserted int, err error) {
	r.inserting.Lock()
	defer r.inserting.Unlock()
	err = r.call(ctx, database, "insert into the inbox", func(ctx context.Context) error {
		inserted, err = r.plan.Inbox.Insert(ctx, messages)
		return err
	})
	return inserted, err
}

// resume tells the source what the database remembers of it.
func (r *reverse) resume(ctx context.Context) error {
	marker, marks := r.plan.Inbox.(Marker)
	resumer, resumes := r.plan.Source.(Resumer)
	if !marks || !resumes {
		return nil
	}
	return r.call(ctx, database, "read how far the source was taken in", func(ctx context.Context) error {
		mark, err := marker.Mark(ctx)
		if err == nil {
			resumer.ResumeFrom(mark)
		}
		return err
	})
}

// remember saves how far the source is taken in. It comes after the commit of
// what the mark stands for, and before the acknowledgement: the source is never
// told more than the database remembers, so a source that knows more proves
// that the database has lost something.
func (r *reverse) remember(ctx context.Context, mark message.Mark) error {
	marker, marks := r.plan.Inbox.(Marker)
	if !marks || mark.Origin == "" {
		return nil
	}
	return r.call(ctx, database, "save how far the source was taken in", func(ctx context.Context) error {
		return marker.SaveMark(ctx, mark)
	})
}

// acknowledge tells the source what is durable. If that fails the messages
// come again and the inbox knows them.
func (r *reverse) acknowledge(ctx context.Context) error {
	for d := range r.committed {
		if err := r.remember(ctx, d.Mark); err != nil {
			return err
		}
		if d.Acknowledge == nil {
			continue
		}
		if err := r.call(ctx, farEnd, "acknowledge to the source", d.Acknowledge); err != nil {
			return err
		}
	}
	return nil
}
