package relay

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/run"
)

// reverse is one session of a reverse pipeline: it moves messages from the
// source to the inbox, and acknowledges what is committed and nothing else.
type reverse struct {
	session
	stopIntake context.CancelFunc
	fetched    chan message.Delivery
	inserters  []*inserter
	// tracker hands over deliveries that are committed, in order.
	tracker   *tracker[fetch]
	committed chan fetch
	// places bound the deliveries between their fetch and their acknowledgement.
	places chan struct{}
	// working counts the lanes that have not ended.
	working atomic.Int64
	// held is what blocks, found first.
	held atomic.Pointer[blockedError]
	memo *memo
}

// fetch is one delivery with its number in the session.
type fetch struct {
	message.Delivery
	number uint64
}

// arrival is one message of a delivery, decoded.
type arrival struct {
	of       *tracked[fetch]
	envelope *message.Envelope
	message  message.Message
	err      error
}

func newReverse(s session) *reverse {
	lanes := max(1, s.limits.Lanes)
	most := 2 + lanes
	r := &reverse{
		session:   s,
		fetched:   make(chan message.Delivery, 1),
		committed: make(chan fetch, most),
		places:    make(chan struct{}, most),
	}
	r.tracker = newTracker(size{values: most, events: most * s.limits.BatchSize, bytes: bytesAtOnce},
		func(d fetch) { r.committed <- d }) // never waits: there are no more than places
	r.memo = newMemo(&s.plan)
	for place := range lanes {
		r.inserters = append(r.inserters, &inserter{
			reverse:  r,
			place:    place,
			arrivals: make(chan []arrival, most),
			wake:     make(chan struct{}, 1),
		})
	}
	return r
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
	keys, err := r.readHolds(work)
	if err != nil {
		return err
	}
	intake, r.stopIntake = context.WithCancel(intake)
	defer r.stopIntake()
	parts := []func(ctx context.Context) error{
		func(ctx context.Context) error { return r.fetchAhead(both(ctx, intake)) },
		func(ctx context.Context) error { return r.deal(both(ctx, intake)) },
		func(ctx context.Context) error { return r.settle(both(ctx, intake), r.tracker.idle) },
		func(ctx context.Context) error { return r.retryLetters(both(ctx, intake), r) },
	}
	r.working.Store(int64(len(r.inserters)))
	for _, i := range r.inserters {
		i.hold(keys)
		parts = append(parts, func(ctx context.Context) error { return r.work(ctx, intake, i) })
	}
	err = run.Together(work, append(parts, r.acknowledge)...)
	if held := r.held.Load(); held != nil {
		return worse(err, held)
	}
	return err
}

// work runs one lane. An event that blocks ends the session after what the
// lanes have is settled; the last lane to end lets acknowledge end.
func (r *reverse) work(ctx, intake context.Context, i *inserter) error {
	defer func() {
		if r.working.Add(-1) == 0 {
			close(r.committed)
		}
	}()
	err := i.store(ctx, intake)
	var block *blockedError
	if errors.As(err, &block) {
		r.held.CompareAndSwap(nil, block)
		r.stopIntake()
		return nil
	}
	return err
}

// fetchAhead fetches. Its context ends when intake is done.
func (r *reverse) fetchAhead(ctx context.Context) error {
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

// deal decodes deliveries and gives each lane the messages of its keys, in
// order. What is not dealt is not acknowledged, and comes again. Its context
// ends when intake is done.
func (r *reverse) deal(ctx context.Context) error {
	defer func() {
		for _, i := range r.inserters {
			close(i.arrivals)
		}
	}()
	for number := uint64(1); ; number++ {
		d, open := <-r.fetched
		if !open {
			return nil
		}
		d.Envelopes = r.split(d.Envelopes)
		if r.memory.limiter.Wait(ctx, len(d.Envelopes)) != nil {
			return nil
		}
		if fault.Mutant(fault.AcknowledgeBeforeInsert) {
			if err := r.acknowledgeEarly(ctx, &d, number); err != nil {
				return err
			}
		}
		select {
		case r.places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		bytes := 0
		for i := range d.Envelopes {
			bytes += len(d.Envelopes[i].Body)
		}
		t, err := r.tracker.admit(ctx, fetch{d, number}, len(d.Envelopes), bytes)
		if err != nil {
			return nil // stopped
		}
		if err := r.dealOne(t); err != nil {
			return err
		}
	}
}

// split takes envelopes that hold several events apart. All are settled before
// the delivery is acknowledged, so what fails halfway comes again as a whole.
func (r *reverse) split(envelopes []message.Envelope) []message.Envelope {
	splitter, splits := r.plan.Codec.(Splitter)
	if !splits {
		return envelopes
	}
	var all []message.Envelope // nil as long as there is nothing to split
	for i := range envelopes {
		parts, several := splitter.Split(&envelopes[i])
		switch {
		case several && all == nil:
			all = append(slices.Clone(envelopes[:i]), parts...)
		case several:
			all = append(all, parts...)
		case all != nil:
			all = append(all, envelopes[i])
		}
	}
	if all == nil {
		return envelopes
	}
	return all
}

func (r *reverse) dealOne(t *tracked[fetch]) error {
	envelopes := t.value.Envelopes
	pieces := make([][]arrival, len(r.inserters))
	for i := range envelopes {
		e := &envelopes[i]
		m, err := r.plan.Codec.Decode(e)
		if err != nil && !isRefusal(err) {
			return err
		}
		to := laneOf(named(m, e).Key, len(r.inserters))
		pieces[to] = append(pieces[to], arrival{of: t, envelope: e, message: m, err: err})
	}
	if len(envelopes) == 0 {
		r.tracker.settle(t, 0)
	}
	for i, piece := range pieces {
		if len(piece) > 0 {
			r.inserters[i].arrivals <- piece // never waits: it has room for all deliveries at once
		}
	}
	return nil
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

// insert inserts, and saves in the same transaction that all is taken in as far
// as a fetch that ends with these messages, unless it is nil.
func (r *reverse) insert(ctx context.Context, messages []message.Message, end *fetch) (inserted int, err error) {
	err = r.call(ctx, database, "insert into the inbox", func(ctx context.Context) error {
		if end != nil {
			inserted, err = r.memo.insert(ctx, messages, end)
		} else {
			inserted, err = r.plan.Inbox.Insert(ctx, messages)
		}
		return err
	})
	if inserted > 0 {
		signal(r.inserted)
	}
	return inserted, err
}

// acknowledge tells the source what is durable. If that fails the messages
// come again and the inbox knows them.
func (r *reverse) acknowledge(ctx context.Context) error {
	for d := range r.committed {
		if err := r.remember(ctx, d); err != nil {
			return err
		}
		if d.Acknowledge != nil {
			if err := r.call(ctx, farEnd, "acknowledge to the source", d.Acknowledge); err != nil {
				return err
			}
		}
		<-r.places
		r.progress()
	}
	return nil
}

// loosen says that dead letters may have gone.
func (r *reverse) loosen() {
	r.budget.changed.Store(true)
	for _, i := range r.inserters {
		i.stale.Store(true)
		signal(i.wake)
	}
}
