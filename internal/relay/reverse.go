package relay

import (
	"context"
	"errors"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/run"
)

// reversing is one session of a reverse pipeline.
type reversing struct {
	*worker
	deliveries chan message.Delivery
	held       heldKeys
}

// arrival is a message with the envelope that it came in.
type arrival struct {
	message  message.Message
	envelope *message.Envelope
}

// reverse runs a session. It returns nil only when the intake has ended and
// everything that was fetched is inserted and acknowledged.
func (w *worker) reverse(intake, work context.Context) error {
	r := &reversing{worker: w, deliveries: make(chan message.Delivery, readAhead)}
	if err := w.plan.Source.Open(work); err != nil {
		return at(broker, err)
	}
	defer w.closeEnd(work, "source", w.plan.Source)
	defer w.closeEnd(work, "inbox", w.plan.Inbox)
	var err error
	if r.held, err = w.readHeld(work); err != nil {
		return err
	}
	w.up()
	return run.Together(work,
		func(ctx context.Context) error { return r.fetch(ctx, intake) },
		r.insert,
	)
}

// fetch is the first stage: it takes from the source ahead of the inbox.
func (r *reversing) fetch(ctx, intake context.Context) error {
	defer close(r.deliveries)
	fetchCtx, cancel := until(ctx, intake)
	defer cancel()
	for {
		fetched, err := r.plan.Source.Fetch(fetchCtx, max(r.plan.Limits.BatchSize, 1))
		if err == nil {
			err = give(fetchCtx, r.deliveries, fetched)
		} else {
			err = at(broker, err)
		}
		if intake.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// insert is the second stage: decode, change, insert, and acknowledge after
// the commit. Acknowledged before it, a crash between the two would lose the
// batch: the broker has forgotten it and the inbox never had it.
func (r *reversing) insert(ctx context.Context) error {
	tick := r.clock.NewTimer(r.options.RetryInterval)
	defer func() { tick.Stop() }()
	if err := r.retryLetters(ctx); err != nil {
		return err
	}
	for {
		select {
		case next, ok := <-r.deliveries:
			if !ok {
				return nil
			}
			if err := r.take(ctx, &next); err != nil {
				return err
			}
			continue
		case <-r.kick:
		case <-tick.C():
			tick = r.clock.NewTimer(r.options.RetryInterval)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := r.retryLetters(ctx); err != nil {
			return err
		}
	}
}

// take makes one delivery durable: what can be inserted in the inbox, the rest
// as dead letters, and only then acknowledges it.
func (r *reversing) take(ctx context.Context, fetched *message.Delivery) error {
	arrivals, letters, filtered, failure := r.decodeAll(fetched.Envelopes)
	var inserted int
	for len(arrivals) > 0 {
		messages := make([]message.Message, len(arrivals))
		for i := range arrivals {
			messages[i] = arrivals[i].message
		}
		n, err := r.plan.Inbox.Insert(ctx, messages)
		if err == nil {
			inserted += n
			break
		}
		var partial *delivery.Partial
		if !errors.As(err, &partial) || !onlyRejections(partial) {
			return at(database, err)
		}
		var more []message.DeadLetter
		if arrivals, more, failure = r.split(arrivals, partial, failure); len(more) == 0 && failure == nil {
			return at(database, err) // nothing was named: it would fail the same way for ever
		}
		letters = append(letters, more...)
	}
	if err := r.setAside(ctx, letters); err != nil {
		return err
	}
	if failure != nil {
		return failure
	}
	if err := fetched.Acknowledge(ctx); err != nil {
		return at(broker, err)
	}
	r.passedEnvelopes()
	r.progress()
	r.status.count(inserted, filtered, 0)
	return nil
}

// passedEnvelopes ends the blocked state: a delivery has passed whole, and
// deliveries come in order.
func (r *reversing) passedEnvelopes() {
	r.mu.Lock()
	isolated := r.isolated
	r.isolated = ""
	r.mu.Unlock()
	if isolated != "" {
		r.up()
	}
}

// decodeAll decodes in order. Under block it stops at the first that fails:
// what stands before it is inserted, and nothing of the delivery acknowledged.
func (r *reversing) decodeAll(envelopes []message.Envelope) (arrivals []arrival, letters []message.DeadLetter, filtered int, failure error) {
	arrivals = make([]arrival, 0, len(envelopes))
	for i := range envelopes {
		e := &envelopes[i]
		m, keep, err := r.decode(e)
		if err == nil && r.held.holds(&m) {
			err = errKeyHeld
		}
		switch {
		case err != nil && r.plan.Limits.OnError == pipeline.Block:
			return arrivals, letters, filtered, r.blockAt(&m, e, err)
		case err != nil:
			r.held.hold(r.plan.Limits.OnError, &m)
			letters = append(letters, r.letterOf(&m, e, err))
		case !keep:
			filtered++
		default:
			arrivals = append(arrivals, arrival{message: m, envelope: e})
		}
	}
	return arrivals, letters, filtered, nil
}

func (r *reversing) decode(e *message.Envelope) (m message.Message, keep bool, err error) {
	if m, err = r.plan.Codec.Decode(e); err != nil {
		return message.Message{EventID: e.EventID, Destination: e.Destination, Time: e.Time}, false, err
	}
	changed := m
	if keep, err = r.change(&changed); err != nil {
		return m, false, err
	}
	return changed, keep, nil
}

// split takes out what the inbox refused. Nothing of the batch was inserted,
// so the rest is inserted next, in order; under block only what stands before.
func (r *reversing) split(arrivals []arrival, partial *delivery.Partial, failure error) (rest []arrival, letters []message.DeadLetter, _ error) {
	for i := range arrivals {
		a := &arrivals[i]
		err := partial.Failed[i]
		if err == nil && r.held.holds(&a.message) {
			err = errKeyHeld
		}
		if err == nil {
			rest = append(rest, *a)
			continue
		}
		if r.plan.Limits.OnError == pipeline.Block {
			return rest, letters, r.blockAt(&a.message, a.envelope, err)
		}
		r.held.hold(r.plan.Limits.OnError, &a.message)
		letters = append(letters, r.letterOf(&a.message, a.envelope, err))
	}
	return rest, letters, failure
}

// letterOf keeps the message whole, with the bytes it came as.
func (r *reversing) letterOf(m *message.Message, e *message.Envelope, err error) message.DeadLetter {
	letter := r.letter(m, err)
	letter.Body, letter.TransportHeaders, letter.Coordinates = e.Body, e.Headers, e.Coordinates
	return letter
}

// blockAt names the message by what is known of it.
func (r *reversing) blockAt(m *message.Message, e *message.Envelope, err error) error {
	named := *m
	if named.EventID == "" {
		named.EventID = e.Coordinates
	}
	return r.block(&named, err)
}
