package relay

import (
	"context"
	"errors"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/run"
)

// pagesAhead is how many pages wait between the reader and the sender; one
// more is in the reader's hand.
const pagesAhead = 1

// sinks returns the sink of each lane.
func (p *Plan) sinks() []Sink { return append([]Sink{p.Sink}, p.LaneSinks...) }

// forward is one session of a forward pipeline: it moves events from the
// reader to the sinks until something fails, and then forgets everything.
type forward struct {
	session
	stopIntake context.CancelFunc
	pages      chan message.Page
	lanes      []*lane
	// tracker offers the positions before which everything is settled.
	tracker *tracker[message.Position]
	// positions holds the newest position that was not saved yet.
	positions chan message.Position
	// ended is closed when no position comes any more.
	ended chan struct{}
}

// pagesAtOnce is how many pages may be unfinished because of one that is: the
// others of its lane and those of other lanes flow on meanwhile.
const pagesAtOnce = 512

// bytesAtOnce bounds the payloads of unfinished pages.
const bytesAtOnce = 16 << 20

func newForward(s session) *forward {
	f := &forward{
		session:   s,
		pages:     make(chan message.Page, pagesAhead),
		positions: make(chan message.Position, 1),
		ended:     make(chan struct{}),
	}
	most := size{values: pagesAtOnce, events: s.options.Window * s.limits.BatchSize, bytes: bytesAtOnce}
	if s.limits.OnError == pipeline.Block {
		most.values = s.options.Window // everything waits, soon
	}
	f.tracker = newTracker(most, func(p message.Position) {
		p.Mark = f.mark()
		f.offer(p)
	})
	for place, sink := range s.plan.sinks() {
		f.lanes = append(f.lanes, f.newLane(place, sink))
	}
	return f
}

// run works until intake is done (then it finishes what it has sent, saves and
// returns nil), until work is done, or until something fails.
func (f *forward) run(intake, work context.Context) error {
	defer f.closeAll(work)
	if err := f.open(work); err != nil {
		return err
	}
	intake, f.stopIntake = context.WithCancel(intake)
	defer f.stopIntake()

	ctx, cancel := context.WithCancelCause(work)
	defer cancel(nil)
	// The saver outlives a failure of the others: what is acknowledged may as
	// well be saved, so that less is sent again.
	saver := run.Start(work, func(_, work context.Context) error {
		err := f.save(work)
		if err != nil {
			cancel(err)
		}
		return err
	})
	parts := []func(ctx context.Context) error{
		func(ctx context.Context) error { return f.read(both(ctx, intake)) },
		func(ctx context.Context) error { return f.deal(both(ctx, intake)) },
		func(ctx context.Context) error { return f.settle(both(ctx, intake), f.tracker.idle) },
		func(ctx context.Context) error { return f.retryLetters(both(ctx, intake), f) },
	}
	for _, l := range f.lanes {
		parts = append(parts,
			func(ctx context.Context) error { return l.ship(ctx, intake) },
			l.receive,
			func(ctx context.Context) error { return l.mend(ctx, intake) },
			func(ctx context.Context) error { return l.watch(both(ctx, intake)) })
	}
	err := run.Together(ctx, parts...)
	close(f.ended)
	close(f.positions)
	return worse(err, saver.Wait())
}

func (f *forward) closeAll(ctx context.Context) {
	ends := []any{f.plan.Reader}
	for _, l := range f.lanes {
		ends = append(ends, l.sink)
	}
	f.close(ctx, ends...)
}

// both returns a context that ends with ctx, and softly with intake.
func both(ctx, intake context.Context) context.Context {
	joined, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(intake, func() { cancel(run.ErrStopped) })
	return joined
}

// open opens the first sink alone, which creates what is missing, and then the
// others at once.
func (f *forward) open(ctx context.Context) error {
	opens := make([]func(ctx context.Context) error, len(f.lanes))
	for i, l := range f.lanes {
		if sink, guarded := l.sink.(Guarded); guarded {
			sink.Guard(f.lease.check)
		}
		opens[i] = func(ctx context.Context) error { return f.call(ctx, farEnd, "open the sink", l.sink.Open) }
	}
	if err := opens[0](ctx); err != nil {
		return err
	}
	if remarker, remarks := f.plan.Sink.(Remarker); remarks {
		if text := remarker.Remark(); text != "" {
			f.health.remark("sink", text)
		}
	}
	if err := run.Together(ctx, opens[1:]...); err != nil {
		return err
	}
	if err := f.call(ctx, database, "open the outbox", f.plan.Reader.Open); err != nil {
		return err
	}
	if err := f.refill(ctx); err != nil {
		return err
	}
	keys, err := f.readHolds(ctx)
	for _, l := range f.lanes {
		l.hold(keys)
	}
	return err
}

// read reads ahead. Its context ends when intake is done.
func (f *forward) read(ctx context.Context) error {
	defer close(f.pages)
	for ctx.Err() == nil {
		page, err := f.plan.Reader.Read(ctx, f.limits.BatchSize)
		if err != nil {
			if errors.Is(context.Cause(ctx), run.ErrStopped) {
				return nil
			}
			return &sideError{side: database, err: err}
		}
		select {
		case f.pages <- page:
		case <-ctx.Done():
		}
	}
	return nil
}

// deal gives each lane the events of its keys, in order. It waits while too
// much is unfinished. Its context ends when intake is done.
func (f *forward) deal(ctx context.Context) error {
	defer func() {
		for _, l := range f.lanes {
			close(l.pieces)
		}
	}()
	number := uint64(0)
	for page := range f.pages {
		bytes := 0
		for i := range page.Messages {
			bytes += len(page.Messages[i].Payload) + len(page.Messages[i].Headers)
		}
		t, err := f.tracker.admit(ctx, page.Position, len(page.Messages), bytes)
		if err != nil {
			return nil // stopped: it was not sent and is read again
		}
		pieces := make([][]item, len(f.lanes))
		for i := range page.Messages {
			m := &page.Messages[i]
			number++
			to := laneOf(m.Key, len(f.lanes))
			if pieces[to] == nil {
				pieces[to] = make([]item, 0, len(page.Messages)/len(f.lanes)+1)
			}
			pieces[to] = append(pieces[to], item{event: m, page: t, number: number})
		}
		for i, piece := range pieces {
			if len(piece) > 0 {
				f.lanes[i].pieces <- piece // never waits: it has room for all pages at once
			}
		}
	}
	return nil
}

// loosen says that dead letters may have gone: keys may be free, and there
// may be room for others.
func (f *forward) loosen() {
	f.budget.changed.Store(true)
	for _, l := range f.lanes {
		l.stale.Store(true)
		signal(l.wake)
	}
}

// offer replaces the position that waits to be saved. The tracker alone calls
// it, one call at a time, so after taking out an older one there is room.
func (f *forward) offer(p message.Position) {
	select {
	case f.positions <- p:
		return
	default:
	}
	select {
	case <-f.positions:
	default:
	}
	f.positions <- p
}

// savePause is how long a saver rests between two saves: at 500 events a second
// a save for each page is a tenth of what the database does. A crash has the
// events of that time sent again, as it has those of a window.
const savePause = 25 * time.Millisecond

// save makes positions durable, one at a time: at once when idle, and the
// newest of those that came up since the save before when busy.
func (f *forward) save(ctx context.Context) error {
	for position := range f.positions {
		err := f.call(ctx, database, "save the position", func(ctx context.Context) error {
			return f.plan.Reader.Save(ctx, position)
		})
		if err != nil {
			return err
		}
		f.progress()
		f.rest(ctx)
	}
	return nil
}

// rest waits until it is time for another save, or for the last.
func (f *forward) rest(ctx context.Context) {
	timer := f.clock.NewTimer(savePause)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-f.ended:
	case <-ctx.Done():
	}
}
