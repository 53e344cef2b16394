package outbox

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/message"
)

// wholeBytes bounds the payloads and headers of a transaction that is read at
// once, as stored.
const wholeBytes = 16 << 20

// KeepTransactions makes the reader return whole transactions: all events that
// one published, in one page, in the place of its last. A transaction of more
// than limit events, or of more bytes than are read at once, comes event by
// event in their own places, and says so. Called before Open.
//
// Order holds: if a transaction had committed when another published a later
// event of its key, then all its ids were drawn before that event's, so its
// last comes before the other's last. And whoever sees the other sees it too,
// so no page can hold the other and leave it for later.
func (r *Reader) KeepTransactions(limit int) {
	r.whole = &whole{limit: limit}
}

// whole puts the events of the reader's pages together to transactions. It
// keeps no event of one that is not complete: when its last is found, those
// that were passed are read again. So memory holds a page, and what is handed out.
type whole struct {
	limit int
	// passed are the transactions of which some events were passed and the last
	// was not found yet, with how far they reach.
	passed map[transactionID]catalog.Extent
	// ready are complete, in order; behind them the position is after.
	ready []*group
	after message.Position
	// last is the position handed out last.
	last message.Position
}

// transactionID tells transactions apart: at or below the floor xids belong to
// another history of the database.
type transactionID struct {
	xid   uint64
	below bool
}

// group is what has to be delivered at once: a whole transaction, or one event
// of a transaction that is too large.
type group struct {
	id       transactionID
	extent   catalog.Extent
	parted   bool
	messages []message.Message
}

// place is where a group stands among the others: its last event's.
func (g *group) place() int64 { return g.messages[len(g.messages)-1].OutboxID }

// missing says that some of the transaction's events were passed before.
func (g *group) missing() bool { return !g.parted && len(g.messages) < g.extent.Events }

func (w *whole) reset(start message.Position) {
	w.passed, w.ready = map[transactionID]catalog.Extent{}, nil
	w.after, w.last = start, start
}

// lookWhole returns the next page of whole transactions, or an empty one when
// there is none now.
func (r *Reader) lookWhole(ctx context.Context, limit int) (message.Page, error) {
	for len(r.whole.ready) == 0 {
		page, err := r.look(ctx, limit)
		if err != nil {
			return message.Page{}, err
		}
		if len(page.Messages) == 0 {
			return message.Page{}, r.whole.complete()
		}
		if err := r.sortOut(ctx, page); err != nil {
			return message.Page{}, err
		}
	}
	return r.handOut(ctx, limit)
}

// complete fails when the rest of a transaction cannot be found: all of it was
// committed when its first event was seen, so somebody removed it since.
func (w *whole) complete() error {
	for id, extent := range w.passed {
		return fmt.Errorf("transaction %d has %d events and its last, number %d of the outbox, is not there any more; reading again from the saved position",
			id.xid, extent.Events, extent.LastID)
	}
	return nil
}

// sortOut puts the events of a page together to groups.
func (r *Reader) sortOut(ctx context.Context, page message.Page) error {
	w := r.whole
	extents, err := r.extents(ctx, page.Messages)
	if err != nil {
		return err
	}
	groups := map[transactionID]*group{}
	parted := map[transactionID]*message.Transaction{}
	for i := range page.Messages {
		m := &page.Messages[i]
		id := r.transactionOf(m)
		extent := extents[id]
		if extent.Events == 0 {
			return fmt.Errorf("transaction %d has no event in the outbox any more, and was just read from it; reading again from the saved position", id.xid)
		}
		if extent.Events > w.limit || extent.Bytes > wholeBytes {
			if parted[id] == nil {
				parted[id] = &message.Transaction{XID: id.xid, Parted: true}
			}
			m.Transaction = parted[id]
			w.ready = append(w.ready, &group{id: id, parted: true, messages: page.Messages[i : i+1 : i+1]})
			continue
		}
		g := groups[id]
		if g == nil {
			g = &group{id: id, extent: extent}
			groups[id] = g
		}
		g.messages = append(g.messages, *m)
		w.passed[id] = extent
		if m.OutboxID == extent.LastID {
			delete(w.passed, id)
			w.ready = append(w.ready, g)
		}
	}
	slices.SortFunc(w.ready, func(a, b *group) int { return cmp.Compare(a.place(), b.place()) })
	w.after = w.behind(page.Position)
	return nil
}

func (r *Reader) transactionOf(m *message.Message) transactionID {
	return transactionID{xid: m.XID, below: m.OutboxID <= r.start.FloorID}
}

// behind is the position up to which everything is delivered once all groups
// are: before the first event that was passed and not delivered. Where that
// lies before the position handed out last, which stays true, it is that one.
func (w *whole) behind(read message.Position) message.Position {
	for _, extent := range w.passed {
		read.LastID = min(read.LastID, extent.FirstID-1)
		read.DrainID = min(read.DrainID, extent.FirstID-1)
	}
	if len(w.passed) > 0 && read.LastID < w.last.LastID {
		return w.last
	}
	return read
}

// extents says how far the transactions of a page reach. What is known stays
// true, so only those are asked for that were not met before.
func (r *Reader) extents(ctx context.Context, messages []message.Message) (map[transactionID]catalog.Extent, error) {
	known := map[transactionID]catalog.Extent{}
	var unknown [2][]uint64 // above the floor, and below
	for i := range messages {
		id := r.transactionOf(&messages[i])
		if _, met := known[id]; met {
			continue
		}
		extent, passed := r.whole.passed[id]
		known[id] = extent
		switch {
		case passed:
		case id.below:
			unknown[1] = append(unknown[1], id.xid)
		default:
			unknown[0] = append(unknown[0], id.xid)
		}
	}
	for side, xids := range unknown {
		if len(xids) == 0 {
			continue
		}
		below := side == 1
		found, err := r.store.Extents(ctx, r.start.Parts, xids, r.start.FloorID, below, r.whole.limit)
		if err != nil {
			return nil, err
		}
		for xid, extent := range found {
			known[transactionID{xid: xid, below: below}] = extent
		}
	}
	return known, nil
}

// handOut makes a page of the first groups: one at least, and as many more as
// fit. All but the last page of those that are ready have the position of the
// page before: that of the last is behind all of them.
func (r *Reader) handOut(ctx context.Context, limit int) (message.Page, error) {
	w := r.whole
	n, events, bytes := 0, 0, int64(0)
	for _, g := range w.ready {
		events += max(len(g.messages), g.extent.Events)
		bytes += g.extent.Bytes
		if n > 0 && (events > limit || bytes > pageBytes) {
			break
		}
		n++
	}
	chosen := w.ready[:n]
	if err := r.readMissing(ctx, chosen); err != nil {
		return message.Page{}, err
	}
	page := message.Page{Position: w.last}
	for _, g := range chosen {
		if !g.parted {
			transaction := &message.Transaction{XID: g.id.xid}
			for i := range g.messages {
				g.messages[i].Transaction = transaction
			}
		}
		page.Messages = append(page.Messages, g.messages...)
	}
	if w.ready = w.ready[n:]; len(w.ready) == 0 {
		page.Position, w.ready = w.after, nil
	}
	w.last = page.Position
	return page, nil
}

// readMissing reads the events again that were passed before their transaction
// was complete.
func (r *Reader) readMissing(ctx context.Context, groups []*group) error {
	for _, below := range []bool{false, true} {
		missing := map[uint64]*group{}
		first, last, events := int64(math.MaxInt64), int64(0), 0
		var xids []uint64
		for _, g := range groups {
			if !g.missing() || g.id.below != below {
				continue
			}
			missing[g.id.xid] = g
			xids = append(xids, g.id.xid)
			first, last = min(first, g.extent.FirstID), max(last, g.extent.LastID)
			events += g.extent.Events
			g.messages = nil
		}
		if len(xids) == 0 {
			continue
		}
		found, err := r.readAgain(ctx, xids, first, last, events)
		if err != nil {
			return err
		}
		for i := range found {
			g := missing[found[i].XID]
			g.messages = append(g.messages, found[i])
		}
		for xid, g := range missing {
			if len(g.messages) != g.extent.Events {
				return fmt.Errorf("transaction %d has %d events in the outbox and had %d when they were first seen; reading again from the saved position",
					xid, len(g.messages), g.extent.Events)
			}
		}
	}
	return nil
}

// readAgain reads all events of transactions that are complete, in order.
func (r *Reader) readAgain(ctx context.Context, xids []uint64, first, last int64, events int) ([]message.Message, error) {
	for {
		request, err := r.request(events)
		if err != nil {
			return nil, err
		}
		request.LateXIDs, request.DrainID, request.FloorID, request.LastID = xids, first-1, 0, last
		request.Bytes = math.MaxInt64 // they are bounded already
		found, err := r.store.ReadDrain(ctx, request)
		if err != nil {
			return nil, err
		}
		if !r.partsChanged(found) {
			sortByID(found.Messages)
			return found.Messages, nil
		}
	}
}
