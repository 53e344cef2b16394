package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// errIntakeDone ends the sending of a page because the pipeline is to stop.
var errIntakeDone = errors.New("stopping")

// laneOf says which of n lanes works an event: all events of a key the same,
// and so all without a key.
func laneOf(key string, n int) int {
	if n == 1 || key == "" {
		return 0
	}
	const offset, prime = 2166136261, 16777619 // FNV-1a
	hash := uint32(offset)
	for i := range len(key) {
		hash = (hash ^ uint32(key[i])) * prime
	}
	// FNV's lowest bits see little but the lowest bits of the text: mix them
	hash = (hash ^ hash>>16) * 0x85ebca6b
	hash ^= hash >> 13
	return int(hash % uint32(n)) //nolint:gosec // lanes are few
}

// item is one event on its way through a lane.
type item struct {
	event *message.Message
	page  *tracked[message.Position]
	// number counts the events of the session in the order of the outbox.
	number uint64
	// err is why it was refused last, attempts how often; final says that
	// nothing but another configuration can help.
	err      error
	attempts int
	final    bool
}

// shipment is what one send carried, on its way to being acknowledged.
type shipment struct {
	number uint64
	// items are those of the receipt, in the order of its indices; none
	// were sent when the receipt is nil.
	items    []item
	receipt  delivery.Receipt
	filtered []item
}

// lane sends the events of its keys in order, through a connection of its own.
// Two goroutines make the fast path, ship and receive; mend is the slow one,
// for events that were refused and those that wait behind them.
type lane struct {
	*forward
	place     int
	sink      Sink
	pieces    chan []item
	slots     chan struct{} // bound the sends that are unacknowledged
	shipments chan shipment
	// sending guards Send: letters are retried and events mended beside the flow.
	sending sync.Mutex
	// wake calls mend; stale says that dead letters may have gone.
	wake  chan struct{}
	stale atomic.Bool

	mu sync.Mutex
	// waiting are the events that wait behind a refused one, by group.
	waiting map[string]*backlog
	// held are the keys that are parked behind a dead letter, with its id in
	// the outbox, and parking their events that came since.
	held    map[string]int64
	parking []item
	// sent and settled number shipments: an event is on its way as long as
	// its shipment is above settled.
	sent, settled uint64
}

func (f *forward) newLane(place int, sink Sink) *lane {
	return &lane{
		forward:   f,
		place:     place,
		sink:      sink,
		pieces:    make(chan []item, f.tracker.most.values),
		slots:     make(chan struct{}, f.options.Window),
		shipments: make(chan shipment, f.options.Window),
		wake:      make(chan struct{}, 1),
		waiting:   map[string]*backlog{},
		held:      map[string]int64{},
	}
}

// group says what waits behind a refused event: with one lane, or where an
// event may block, everything; else the events of its key, and those without a
// key behind one another.
func (l *lane) group(key string) string {
	if len(l.lanes) == 1 || l.limits.OnError == pipeline.Block {
		return ""
	}
	return key
}

// ship changes, encodes and sends pieces of pages. When intake is done it lets
// the receipts of what was sent come in.
func (l *lane) ship(ctx, intake context.Context) error {
	defer close(l.shipments)
	for piece := range l.pieces {
		most := l.memory.limiter.Burst()
		if most == 0 {
			most = len(piece)
		}
		var until int
		for from := 0; from < len(piece); from = until {
			if intake.Err() != nil {
				return nil
			}
			until = cut(piece, from, most)
			chunk := piece[from:until:until]
			switch err := l.shipChunk(ctx, intake, chunk); {
			case errors.Is(err, errIntakeDone):
				return nil
			case err != nil:
				return err
			}
		}
	}
	return nil
}

// parcel is what one send will carry: items and envelopes at the same indices.
type parcel struct {
	items     []item
	envelopes []message.Envelope
	filtered  []item
	refused   bool
}

func (l *lane) shipChunk(ctx, intake context.Context, chunk []item) error {
	p, err := l.prepareAll(chunk)
	if err != nil {
		return err
	}
	if len(p.items) > 0 && l.memory.limiter.Wait(intake, len(p.items)) != nil {
		return errIntakeDone
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	number, receipt, err := l.hand(ctx, p)
	if err != nil {
		return err
	}
	// never waits: it has as much room as there are slots
	l.shipments <- shipment{number: number, items: p.items, receipt: receipt, filtered: p.filtered}
	return nil
}

func (l *lane) prepareAll(chunk []item) (*parcel, error) {
	p := &parcel{items: make([]item, 0, len(chunk)), envelopes: make([]message.Envelope, 0, len(chunk))}
	for _, it := range chunk {
		var envelope message.Envelope
		keep := true
		if known, found := l.memory.refusalOf(it.event.EventID); found {
			it.err, it.attempts = known.err, known.attempts
		} else {
			var err error
			envelope, keep, err = l.prepare(it.event)
			if err != nil && !isRefusal(err) {
				return nil, err
			}
			it.refuseForGood(err)
		}
		p.refused = p.refused || it.err != nil
		if it.err == nil && !keep {
			p.filtered = append(p.filtered, it)
			continue
		}
		p.items = append(p.items, it)
		p.envelopes = append(p.envelopes, envelope)
	}
	refuseWhole(p.items)
	return p, nil
}

// refuseForGood notes an error that would come again each time.
func (i *item) refuseForGood(err error) {
	if err != nil {
		i.err, i.attempts, i.final = err, 1, true
	}
}

func (f *forward) prepare(original *message.Message) (message.Envelope, bool, error) {
	changed, keep, err := f.change(*original)
	if err != nil || !keep {
		return message.Envelope{}, false, err
	}
	envelope, err := f.plan.Codec.Encode(&changed)
	envelope.Transaction = original.Transaction
	return envelope, err == nil, err
}

// begin numbers a shipment and takes out of it what may not go now. From here
// on the parcel counts as on its way.
func (l *lane) begin(p *parcel) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	l.sift(p)
	return l.sent
}

// sift leaves in the parcel what goes out. What was refused, and what waits
// behind it, goes to mend. The lock is held.
func (l *lane) sift(p *parcel) {
	if !p.refused && len(l.waiting)+len(l.held) == 0 {
		return
	}
	kept := 0
	for i := range p.items {
		if !l.putAside(p.items[i]) {
			p.items[kept], p.envelopes[kept] = p.items[i], p.envelopes[i]
			kept++
		}
	}
	if kept < len(p.items) {
		signal(l.wake)
	}
	p.items, p.envelopes, p.refused = p.items[:kept], p.envelopes[:kept], false
}

// putAside says whether the item may not be sent now, and keeps it if so. The
// backlog is asked before the parked keys: a key whose events wait there is
// parked in their order.
func (l *lane) putAside(it item) bool {
	group := l.group(it.event.Key)
	switch b := l.waiting[group]; {
	case b != nil:
		// Behind all of it, unless a later event of this shipment was refused
		// before this one was: nothing works at the backlog until it has landed.
		b.insert(it)
	case l.isHeld(it.event):
		l.parking = append(l.parking, it)
	case it.err != nil:
		l.waiting[group] = &backlog{group: group, queue: []item{it}, after: l.sent}
	default:
		return false
	}
	return true
}

// hand numbers the parcel and sends it. What the sink refuses before sending
// anything is taken out, and the rest offered again. Nothing lands between the
// two: an event that is refused then would be sent behind by its key's next.
func (l *lane) hand(ctx context.Context, p *parcel) (number uint64, receipt delivery.Receipt, err error) {
	l.sending.Lock()
	defer l.sending.Unlock()
	number = l.begin(p)
	for len(p.envelopes) > 0 {
		receipt, err := l.sendLocked(ctx, p.envelopes)
		if err == nil {
			return number, receipt, nil
		}
		partial, ok := partialOf(err, len(p.envelopes))
		if partial == nil {
			return number, nil, err
		}
		if !ok || !allRejected(partial) {
			return number, nil, &sideError{side: farEnd, err: blame(partial)}
		}
		for i, refusal := range partial.Failed {
			p.items[i].refuseForGood(refusal)
		}
		p.refused = true
		refuseWhole(p.items)
		l.mu.Lock()
		l.sift(p)
		l.mu.Unlock()
	}
	return number, nil, nil
}

func (l *lane) sendNow(ctx context.Context, envelopes []message.Envelope) (receipt delivery.Receipt, err error) {
	l.sending.Lock()
	defer l.sending.Unlock()
	return l.sendLocked(ctx, envelopes)
}

func (l *lane) sendLocked(ctx context.Context, envelopes []message.Envelope) (receipt delivery.Receipt, err error) {
	if err := l.lease.check(); err != nil {
		return nil, err
	}
	err = l.call(ctx, farEnd, "send to the sink", func(ctx context.Context) error {
		receipt, err = l.sink.Send(ctx, envelopes)
		return err
	})
	return receipt, err
}

// receive waits for receipts in the order of the sends.
func (l *lane) receive(ctx context.Context) error {
	for s := range l.shipments {
		if err := l.acknowledge(ctx, &s); err != nil {
			return err
		}
		<-l.slots
	}
	return nil
}

func (l *lane) acknowledge(ctx context.Context, s *shipment) error {
	early := fault.Mutant(fault.SaveBeforeReceipt)
	if early {
		l.settleItems(s.items)
	}
	if err := l.land(ctx, s); err != nil {
		return err
	}
	l.memory.forget(s.items)
	l.health.count(len(s.items), len(s.filtered), 0)
	if !early {
		l.settleItems(s.items)
	}
	l.settleItems(s.filtered)
	return nil
}

// name tells what mend of this lane says apart from what others say.
func (l *lane) name(group string) string { return fmt.Sprintf("%d:%s", l.place, group) }
