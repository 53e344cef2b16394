package relay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// roomPoll is how often a lane looks for room for dead letters; the database
// is asked less often.
const roomPoll = time.Second

// backlog is a refused event and what waits behind it. Only mend takes out of
// it; ship and receive put in, under the lane's lock.
type backlog struct {
	group string
	queue []item
	// after is the last shipment that may hold an event of the group: until it
	// has landed, an earlier event than the head may still be refused.
	after uint64
	// due is when the head may be tried again.
	due time.Time
	// stuck counts how often the head was found to block; it is tried in between.
	stuck int
}

// insert puts a refused event in its place. What was sent before it became
// known and is refused later may belong in front of what waits already.
func (b *backlog) insert(it item) {
	at := len(b.queue)
	for at > 0 && b.queue[at-1].number > it.number {
		at--
	}
	b.queue = slices.Insert(b.queue, at, it)
}

// mend works what does not go the fast way: it tries refused events again,
// applies the policy, parks events of held keys, and sends what waited, until
// nothing waits and ship sends such events again itself. Everything happens in
// the order of the events of a group; groups do not wait for one another.
func (l *lane) mend(ctx, intake context.Context) error {
	pace := both(ctx, intake)
	for pace.Err() == nil {
		wait, err := l.mendOnce(ctx, pace)
		if err != nil {
			return err
		}
		if wait > 0 && !l.idle(pace, wait) {
			return nil
		}
	}
	return nil
}

// idle waits until something changed, and returns false when it is time to stop.
func (l *lane) idle(ctx context.Context, most time.Duration) bool {
	timer := l.clock.NewTimer(most)
	defer timer.Stop()
	select {
	case <-l.wake:
	case <-timer.C():
	case <-ctx.Done():
		return false
	}
	return true
}

// mendOnce does one thing and returns how long nothing more is to do.
func (l *lane) mendOnce(ctx, pace context.Context) (time.Duration, error) {
	parked, full, err := l.parkSome(ctx)
	if err != nil || parked {
		return 0, err
	}
	if !full {
		if err := l.refreshHolds(ctx); err != nil {
			return 0, err
		}
	}
	b, wait := l.ready()
	if b == nil {
		if full {
			wait = min(wait, roomPoll)
		}
		return wait, nil
	}
	return 0, l.work(ctx, pace, b)
}

// ready returns a backlog that can be worked at, or how long there is none.
func (l *lane) ready() (*backlog, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, wait := l.clock.Now(), l.options.LetterPoll
	for _, b := range l.waiting {
		if l.settled < b.after {
			continue // receive calls when it has landed
		}
		if in := b.due.Sub(now); in > 0 {
			wait = min(wait, in)
			continue
		}
		return b, 0
	}
	return nil, wait
}

// work does the next thing about a backlog's head.
func (l *lane) work(ctx, pace context.Context, b *backlog) error {
	l.mu.Lock()
	head := b.queue[0]
	l.mu.Unlock()
	switch {
	case head.err == nil:
		return l.flush(ctx, pace, b)
	case !head.final && head.attempts < l.limits.MaxAttempts:
		return l.try(ctx, pace, b, head)
	case l.limits.OnError != pipeline.Block:
		return l.giveUp(ctx, b, head)
	case b.stuck%2 == 1:
		b.stuck++
		return l.try(ctx, pace, b, head)
	}
	l.block(b, head)
	return nil
}

// block holds the lane at an event until it is taken or the configuration changes.
func (l *lane) block(b *backlog, head item) {
	if b.stuck == 0 {
		l.health.count(0, 0, 1)
	}
	b.stuck++
	b.due = l.clock.Now().Add(l.options.Mending.After(b.stuck/2 + 1))
	l.health.stand(l.name(b.group), pipeline.StateBlocked,
		fmt.Sprintf("%v; it is tried again, and everything waits behind it (on_error is \"block\")", blocked(head.event, head.err)), head.err)
}

// try sends the head alone of its group, or its transaction: what followed it
// would be stored although it was refused once more, and overtake it if a later
// attempt succeeds.
func (l *lane) try(ctx, pace context.Context, b *backlog, head item) error {
	whole := l.whole(b)
	if l.memory.limiter.Wait(pace, len(whole)) != nil {
		return nil //nolint:nilerr // stopping
	}
	var envelopes []message.Envelope
	for i := range whole {
		envelope, keep, err := l.prepare(whole[i].event)
		switch {
		case err != nil && !isRefusal(err):
			return err
		case err != nil:
			head.refuseForGood(err)
			l.refusedAgain(b, head)
			return nil
		case keep:
			envelopes = append(envelopes, envelope)
		}
	}
	if len(envelopes) > 0 {
		if err := l.deliver(ctx, envelopes...); err != nil {
			if partial, ok := partialOf(err, len(envelopes)); partial == nil || !ok || !allRejected(partial) {
				return err
			}
			known := l.memory.refuse(head.event.EventID, unwrapPartial(err))
			head.err, head.attempts, head.final = known.err, known.attempts, false
			l.refusedAgain(b, head)
			return nil
		}
	}
	l.health.count(len(envelopes), len(whole)-len(envelopes), 0)
	l.pop(b, whole, nil)
	return nil
}

// deliver sends envelopes and waits for their receipt.
func (l *lane) deliver(ctx context.Context, envelopes ...message.Envelope) error {
	receipt, err := l.sendNow(ctx, envelopes)
	if err != nil {
		return err
	}
	return l.await(ctx, receipt)
}

// await waits for a receipt.
func (l *lane) await(ctx context.Context, receipt delivery.Receipt) error {
	if patient, ok := receipt.(Patient); ok {
		select {
		case <-patient.Ready():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return l.call(ctx, farEnd, "wait for the sink's acknowledgement", receipt.Wait)
}

// refusedAgain puts the head back with its new error and says when it is due.
func (l *lane) refusedAgain(b *backlog, head item) {
	l.mu.Lock()
	b.queue[0] = head
	l.mu.Unlock()
	if !head.final && head.attempts < l.limits.MaxAttempts {
		b.due = l.clock.Now().Add(l.options.Refusal.After(head.attempts))
		l.health.stand(l.name(b.group), pipeline.StateWaiting,
			fmt.Sprintf("event %s was refused and is tried again, up to %d times: %v", head.event.EventID, l.limits.MaxAttempts, head.err), head.err)
	}
}

// giveUp makes the head a dead letter, and parks its key if the policy says so.
func (l *lane) giveUp(ctx context.Context, b *backlog, head item) error {
	added, err := l.addItems(ctx, []item{head})
	if err != nil {
		return err
	}
	if added == 0 {
		b.due = l.clock.Now().Add(roomPoll)
		return nil
	}
	if key := head.event.Key; key != "" && l.limits.OnError == pipeline.ParkKey {
		l.mu.Lock()
		l.held[key] = head.event.OutboxID
		l.mu.Unlock()
	}
	l.pop(b, []item{head}, nil)
	return nil
}

// pop takes the first items out of a backlog, all of which are dealt with but
// those left, which go back to the front. When nothing waits any more, ship
// sends the group's events again.
func (l *lane) pop(b *backlog, first, left []item) {
	done := make([]item, 0, len(first))
	for _, it := range first {
		if !slices.ContainsFunc(left, func(other item) bool { return other.number == it.number }) {
			done = append(done, it)
		}
	}
	l.mu.Lock()
	b.queue = append(slices.Clone(left), b.queue[len(first):]...)
	if len(b.queue) == 0 {
		delete(l.waiting, b.group)
	}
	l.mu.Unlock()
	b.stuck = 0
	l.health.relieve(l.name(b.group))
	l.memory.forget(done)
	l.settleItems(done)
}

// flush sends what waited behind an event that is dealt with.
func (l *lane) flush(ctx, pace context.Context, b *backlog) error {
	first, toPark, p, err := l.gather(b)
	if err != nil || len(first) == 0 {
		return err
	}
	if len(toPark) > 0 {
		added, err := l.addItems(ctx, toPark)
		if err != nil {
			return err
		}
		if added < len(toPark) {
			first = p.cutBefore(toPark[added].number, first)
			b.due = l.clock.Now().Add(roomPoll)
		}
	}
	if len(first) == 0 {
		return nil
	}
	if len(p.items) > 0 && l.memory.limiter.Wait(pace, len(p.items)) != nil {
		return nil //nolint:nilerr // stopping
	}
	left, err := l.sendWaiting(ctx, p)
	if err != nil {
		return err
	}
	l.health.count(0, len(p.filtered), 0)
	l.pop(b, first, left)
	return nil
}

// cutBefore leaves in the parcel what comes before an event, and returns those
// of first that do.
func (p *parcel) cutBefore(number uint64, first []item) []item {
	before := func(items []item) int {
		at := slices.IndexFunc(items, func(it item) bool { return it.number >= number })
		if at < 0 {
			return len(items)
		}
		return at
	}
	n := before(p.items)
	p.items, p.envelopes = p.items[:n], p.envelopes[:n]
	p.filtered = p.filtered[:before(p.filtered)]
	return first[:before(first)]
}

// gather takes the events at the front of a backlog up to one that is refused
// by itself: those of parked keys, and those to send.
func (l *lane) gather(b *backlog) (first, toPark []item, p *parcel, err error) {
	most := l.limits.BatchSize * l.options.Window
	if burst := l.memory.limiter.Burst(); burst > 0 {
		most = burst
	}
	l.mu.Lock()
	first = slices.Clone(b.queue[:cut(b.queue, 0, most)])
	l.mu.Unlock()
	p = &parcel{}
	for i := range first {
		it := &first[i]
		if it.err == nil && l.isHeld(it.event) { // mend alone changes what is held
			toPark = append(toPark, *it)
			continue
		}
		var envelope message.Envelope
		keep := true
		if it.err == nil {
			envelope, keep, err = l.prepare(it.event)
			if err != nil && !isRefusal(err) {
				return nil, nil, nil, err
			}
			it.refuseForGood(err)
		}
		switch {
		case it.err != nil:
			return l.stopAt(b, first, i, p), toPark, p, nil //nolint:nilerr // the event's own fault, which is written on it
		case !keep:
			p.filtered = append(p.filtered, *it)
		default:
			p.items, p.envelopes = append(p.items, *it), append(p.envelopes, envelope)
		}
	}
	return first, toPark, p, nil
}

// sendWaiting sends a parcel of events that wait for one another, a batch
// behind the other, and returns those that still have to, in order.
func (l *lane) sendWaiting(ctx context.Context, p *parcel) (left []item, err error) {
	var sent []shipment
	stop := len(p.items) // in front of an event that the sink will not take
	for from := 0; from < stop; {
		n := cut(p.items[:stop], from, l.limits.BatchSize) - from
		receipt, err := l.sendNow(ctx, p.envelopes[from:from+n])
		if partial, ok := partialOf(err, n); partial != nil && ok && allRejected(partial) {
			for i, refusal := range partial.Failed {
				p.items[from+i].refuseForGood(refusal)
			}
			refuseWhole(p.items)
			stop = headOf(p.items, from+partial.Indices()[0])
			continue
		}
		if err != nil {
			return nil, err
		}
		sent = append(sent, shipment{items: p.items[from : from+n], receipt: receipt})
		from += n
	}
	var refused []item
	for _, s := range sent {
		taken, some, err := l.outcome(ctx, s.receipt, s.items)
		if err != nil {
			return nil, err
		}
		l.health.count(len(taken), 0, 0)
		refused = append(refused, some...)
	}
	return append(refused, p.items[stop:]...), nil
}
