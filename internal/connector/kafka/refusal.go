package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// mostRefused bounds what is remembered of refused events: those that became
// dead letters never come again. Who is forgotten is refused once more.
const mostRefused = 10_000

// refusals remember from one session to the next which events the brokers
// refused, so that they are refused before anything behind them is sent.
type refusals struct {
	mu sync.Mutex
	by map[string]*refusal
	// suspects counts the events among which one was refused, and which go by
	// themselves until it is found.
	suspects int
}

type refusal struct {
	err error
	// told says that the engine was told: if it tries the event alone, it goes.
	told bool
}

// known returns why an event was refused, unless it is tried alone.
func (r *refusals) known(id string, alone bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.by[id]
	if found == nil || id == "" || alone && found.told {
		return nil
	}
	found.told = true
	return found.err
}

func (r *refusals) remember(id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil || len(r.by) >= mostRefused {
		r.by = map[string]*refusal{}
	}
	r.by[id] = &refusal{err: err}
	r.suspects = 0
}

// suspect says that the next events go by themselves.
func (r *refusals) suspect(events int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suspects = events
}

func (r *refusals) careful() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.suspects > 0
}

func (r *refusals) passed(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suspects = max(0, r.suspects-1)
	delete(r.by, id)
}

// lost says what becomes of a wave that was not stored, and of the session.
func (p *producer) lost(ctx context.Context, w *wave, err error) {
	if !errors.Is(err, errInWave) {
		p.failed = err
		return
	}
	for i, result := range w.results {
		if result == nil {
			continue
		}
		at := place{w.items[i].record.Topic, w.items[i].record.Partition}
		if recordsFault(result) {
			p.refused(w, i, at, result)
			return
		}
		p.failed = p.conn.explain(fmt.Sprintf("store events in topic %s", at.topic), at.String(), result)
		if ctx.Err() != nil {
			p.failed = ctx.Err()
		}
		return
	}
}

// refused finds out whose fault it was that the broker refused a batch. Nothing
// of the batch is stored, so order is kept by ending the session: the next one
// refuses the event before it sends what is behind.
func (p *producer) refused(w *wave, at int, where place, result error) {
	culprits := w.counts[where]
	if p.settings.transactional {
		culprits = w.units
	}
	if culprits > 1 {
		p.refusals.suspect(len(w.items))
		p.failed = delivery.RetryAfter(fmt.Errorf("%s refused one of %d events that were sent at once (%w); they are sent one by one to find which", where, len(w.items), result), 0)
		return
	}
	err := delivery.Reject(fmt.Errorf("%s refuses the event: %w", where, result))
	r := w.of[at]
	p.mu.Lock()
	last := len(p.queue) == 1 && p.queue[0] == r && r.alone
	if last {
		p.queue, p.bytes = nil, 0
	}
	p.mu.Unlock()
	if last { // nothing is behind it
		failed := map[int]error{}
		for i := range r.items {
			failed[i] = err
		}
		r.refused = &delivery.Partial{Failed: failed}
		return
	}
	p.refusals.remember(w.items[at].id, err)
	// as text: the verdict about the event is not one about the session
	p.failed = delivery.RetryAfter(fmt.Errorf("event %s is refused: %s", w.items[at].id, err), 0) //nolint:errorlint // see above
}
