package relay

import (
	"context"
	"errors"
	"sync"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/run"
)

// pagesAhead is how many pages wait between the reader and the sender; one
// more is in the reader's hand.
const pagesAhead = 1

// shipment is what one send carried, on its way to being acknowledged.
type shipment struct {
	// messages are those of the receipt, in the order of its indices; none
	// were sent when the receipt is nil.
	messages []message.Message
	receipt  delivery.Receipt
	letters  []message.DeadLetter
	filtered int
	// position is set on the last shipment of a page.
	position *message.Position
}

// forward is one session of a forward pipeline: it moves events from the
// reader to the sink until something fails, and then forgets everything.
type forward struct {
	session
	stopIntake context.CancelFunc
	pages      chan message.Page
	// slots bound the sends that are unacknowledged.
	slots     chan struct{}
	shipments chan shipment
	// positions holds the newest acknowledged position that was not saved yet.
	positions chan message.Position
	// sending guards Send, since letters are retried beside the flow.
	sending sync.Mutex
	// held is the error that ends the session after what was sent is settled.
	held error
}

func newForward(s session) *forward {
	return &forward{
		session:   s,
		pages:     make(chan message.Page, pagesAhead),
		slots:     make(chan struct{}, s.options.Window),
		shipments: make(chan shipment, s.options.Window),
		positions: make(chan message.Position, 1),
	}
}

// run works until intake is done (then it finishes what it has read, saves and
// returns nil), until work is done, or until something fails.
func (f *forward) run(intake, work context.Context) error {
	defer f.close(work, f.plan.Sink, f.plan.Reader)
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
	err := run.Together(ctx,
		func(ctx context.Context) error { return f.read(both(ctx, intake)) },
		func(ctx context.Context) error { return f.ship(ctx, intake) },
		f.receive,
		func(ctx context.Context) error { return f.settle(both(ctx, intake)) },
		func(ctx context.Context) error { return f.retryLetters(both(ctx, intake), f.resend) },
	)
	close(f.positions)
	err = worse(err, saver.Wait())
	return worse(err, f.held)
}

// both returns a context that ends with ctx, and softly with intake.
func both(ctx, intake context.Context) context.Context {
	joined, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(intake, func() { cancel(run.ErrStopped) })
	return joined
}

func (f *forward) open(ctx context.Context) error {
	if sink, guarded := f.plan.Sink.(Guarded); guarded {
		sink.Guard(f.lease.check)
	}
	err := f.call(ctx, farEnd, "open the sink", f.plan.Sink.Open)
	if err != nil {
		return err
	}
	if err := f.call(ctx, database, "open the outbox", f.plan.Reader.Open); err != nil {
		return err
	}
	return f.readHolds(ctx)
}

// read reads ahead. Its context ends when intake is done.
func (f *forward) read(ctx context.Context) error {
	defer close(f.pages)
	for ctx.Err() == nil {
		page, err := f.plan.Reader.Read(ctx, f.memory.readLimit(f.limits.BatchSize))
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

// receive waits for receipts in the order of the sends. A position goes to the
// saver only when everything before it is acknowledged: this goroutine is the
// only one that knows.
func (f *forward) receive(ctx context.Context) error {
	for s := range f.shipments {
		if err := f.acknowledge(ctx, &s); err != nil {
			return err
		}
		<-f.slots
	}
	return nil
}

func (f *forward) acknowledge(ctx context.Context, s *shipment) error {
	if fault.Mutant(fault.SaveBeforeReceipt) && s.position != nil {
		f.offer(*s.position)
	}
	if s.receipt != nil {
		err := f.call(ctx, farEnd, "wait for the sink's acknowledgement", s.receipt.Wait)
		if err != nil {
			return f.refused(s.messages, err)
		}
		f.memory.forget(s.messages)
	}
	if err := f.addLetters(ctx, s.letters); err != nil {
		return err
	}
	f.health.count(len(s.messages), s.filtered, 0)
	if s.position != nil {
		f.offer(*s.position)
	}
	return nil
}

// refused remembers which events the sink refused, so that the next session
// sends them alone, and returns the error that ends this one.
func (f *forward) refused(messages []message.Message, err error) error {
	partial, ok := partialOf(err, len(messages))
	if partial == nil || !ok {
		return err
	}
	for i, failure := range partial.Failed {
		if verdict, _ := delivery.VerdictOf(failure); verdict == delivery.VerdictReject {
			f.memory.refuse(messages[i].EventID, failure)
		}
	}
	decisive := blame(partial)
	if allRejected(partial) {
		return &refusedError{err: decisive}
	}
	return &sideError{side: farEnd, err: decisive}
}

// offer replaces the position that waits to be saved. It has the only sender,
// so after taking out an older one there is room.
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

// save makes positions durable, one at a time: at once when idle, and the
// newest of those that came up during the save before when busy.
func (f *forward) save(ctx context.Context) error {
	for position := range f.positions {
		err := f.call(ctx, database, "save the position", func(ctx context.Context) error {
			return f.plan.Reader.Save(ctx, position)
		})
		if err != nil {
			return err
		}
		f.progress()
	}
	return nil
}
