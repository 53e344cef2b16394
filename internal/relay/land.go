package relay

import (
	"context"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// land waits for the receipt of a shipment, and takes in what it says.
func (l *lane) land(ctx context.Context, s *shipment) (err error) {
	if patient, ok := s.receipt.(Patient); ok {
		select {
		case <-patient.Ready():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		l.sending.Lock()
		defer l.sending.Unlock()
	}
	var refused []item
	if s.receipt != nil {
		if s.items, refused, err = l.outcome(ctx, s.receipt, s.items); err != nil {
			return err
		}
	}
	l.landed(s.number, refused)
	return nil
}

// outcome waits for a receipt and tells apart what was taken and what was
// refused. An error ends the session; refusals are remembered even then.
func (l *lane) outcome(ctx context.Context, receipt delivery.Receipt, items []item) (taken, refused []item, err error) {
	err = l.await(ctx, receipt)
	if err == nil {
		return items, nil, nil
	}
	partial, ok := partialOf(err, len(items))
	if partial == nil || !ok {
		return nil, nil, err
	}
	taken = make([]item, 0, len(items))
	for i := range items {
		it, failure := items[i], partial.Failed[i]
		verdict, _ := delivery.VerdictOf(failure)
		if failure != nil && verdict == delivery.VerdictHeld {
			refused = append(refused, it) // by nobody: it waits
			continue
		}
		if failure != nil && verdict == delivery.VerdictReject {
			known := l.memory.refuse(it.event.EventID, failure)
			it.err, it.attempts = known.err, known.attempts
			refused = append(refused, it)
			continue
		}
		taken = append(taken, it)
	}
	if !allRejected(partial) {
		return nil, nil, &sideError{side: farEnd, err: blame(partial)}
	}
	return taken, refused, nil
}

// landed says that a shipment is no longer on its way, and puts what was
// refused of it in front of what waits.
func (l *lane) landed(number uint64, refused []item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range refused {
		group := l.group(it.event.Key)
		b := l.waiting[group]
		if b == nil {
			b = &backlog{group: group, after: l.sent}
			l.waiting[group] = b
		}
		b.insert(it)
	}
	l.settled = number
	if len(l.waiting) > 0 {
		signal(l.wake)
	}
}

// settleItems lets the position pass events that are dealt with.
func (l *lane) settleItems(items []item) {
	for from := 0; from < len(items); {
		until := from + 1
		for until < len(items) && items[until].page == items[from].page {
			until++
		}
		l.tracker.settle(items[from].page, until-from)
		from = until
	}
}
