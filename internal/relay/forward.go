package relay

import (
	"context"
	"errors"
	"sync"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/run"
)

// forwarding is one session of a forward pipeline: read, change and encode,
// send, wait for acknowledgements, save. Everything in it is forgotten at its end.
type forwarding struct {
	*worker
	pages chan message.Page
	sent  chan outstanding
	held  heldKeys

	positions sync.Mutex
	acked     *message.Position // the newest acknowledged and not yet saved
	wake      chan struct{}     // tells the saver that acked is set; one signal is kept
}

// outstanding is a batch that the sink has and may not have acknowledged.
type outstanding struct {
	receipt delivery.Receipt // nil when all of the page was filtered or set aside
	batch   []prepared
	// position holds once this and everything before is durable; nil for all
	// but the last batch of a page.
	position *message.Position
	filtered int
}

// forward runs a session. It returns nil only when the intake has ended and
// everything that was sent is acknowledged and saved.
func (w *worker) forward(intake, work context.Context) error {
	f := &forwarding{worker: w, pages: make(chan message.Page, readAhead), sent: make(chan outstanding, w.options.Window),
		wake: make(chan struct{}, 1)}
	if err := w.plan.Reader.Open(work); err != nil {
		return at(database, err)
	}
	defer w.closeEnd(work, "reader", w.plan.Reader)
	if err := w.plan.Sink.Open(work); err != nil {
		return at(broker, err)
	}
	defer w.closeEnd(work, "sink", w.plan.Sink)
	var err error
	if f.held, err = w.readHeld(work); err != nil {
		return err
	}
	w.up()
	return run.Together(work,
		func(ctx context.Context) error { return f.read(ctx, intake) },
		f.send,
		f.settle,
		f.save,
	)
}

// read is the first stage. It ends without an error when the intake ends.
func (f *forwarding) read(ctx, intake context.Context) error {
	defer close(f.pages)
	readCtx, cancel := until(ctx, intake)
	defer cancel()
	for {
		page, err := f.plan.Reader.Read(readCtx, f.limit())
		if err != nil {
			if intake.Err() != nil {
				return nil
			}
			return at(database, err)
		}
		if err := give(readCtx, f.pages, page); err != nil {
			if intake.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// send is the second stage: it changes, encodes and hands over in order. It
// also delivers the dead letters that somebody asked to retry, since a sink is
// used by one goroutine.
func (f *forwarding) send(ctx context.Context) error {
	defer close(f.sent)
	tick := f.clock.NewTimer(f.options.RetryInterval)
	defer func() { tick.Stop() }()
	if err := f.retryLetters(ctx); err != nil {
		return err
	}
	for {
		select {
		case page, ok := <-f.pages:
			if !ok {
				return nil
			}
			if err := f.sendPage(ctx, &page); err != nil {
				return err
			}
			continue
		case <-f.kick:
		case <-tick.C():
			tick = f.clock.NewTimer(f.options.RetryInterval)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := f.retryLetters(ctx); err != nil {
			return err
		}
	}
}

// sendPage sends a page in as many batches as refusals and the rate limit ask for.
func (f *forwarding) sendPage(ctx context.Context, page *message.Page) error {
	batch, filtered, failure := f.prepare(ctx, page.Messages)
	var blocks *blockedError
	if failure != nil && !errors.As(failure, &blocks) {
		return failure
	}
	step := len(batch)
	if burst := f.limiter.Burst(); burst > 0 {
		step = min(step, burst)
	}
	for len(batch) > 0 {
		n := min(len(batch), max(step, 1))
		if err := f.limiter.Wait(ctx, n); err != nil {
			return err
		}
		if err := f.sendBatch(ctx, batch[:n]); err != nil {
			return err
		}
		batch = batch[n:]
	}
	if failure != nil {
		return failure
	}
	f.passed(page.Messages)
	return give(ctx, f.sent, outstanding{position: &page.Position, filtered: filtered})
}

// sendBatch hands over a batch. What the sink refuses before it sent anything
// will be refused every time; the policy applies at once, and the rest goes on.
func (f *forwarding) sendBatch(ctx context.Context, batch []prepared) error {
	for len(batch) > 0 {
		envelopes := make([]message.Envelope, len(batch))
		for i := range batch {
			envelopes[i] = batch[i].envelope
		}
		receipt, err := f.plan.Sink.Send(ctx, envelopes)
		if err == nil {
			return give(ctx, f.sent, outstanding{receipt: receipt, batch: batch})
		}
		var partial *delivery.Partial
		if !errors.As(err, &partial) || !onlyRejections(partial) {
			return at(broker, err)
		}
		if batch, err = f.without(ctx, batch, partial); err != nil {
			return err
		}
	}
	return nil
}

// without sets the refused events aside and returns the others, in order;
// under park_key also those of the same keys behind them.
func (f *forwarding) without(ctx context.Context, batch []prepared, partial *delivery.Partial) ([]prepared, error) {
	var letters []message.DeadLetter
	rest := make([]prepared, 0, len(batch))
	for i := range batch {
		err := partial.Failed[i]
		if err == nil && f.held.holds(batch[i].original) {
			err = errKeyHeld
		}
		if err == nil {
			rest = append(rest, batch[i])
			continue
		}
		if f.plan.Limits.OnError == pipeline.Block {
			return nil, f.block(batch[i].original, err)
		}
		f.held.hold(f.plan.Limits.OnError, batch[i].original)
		letters = append(letters, f.letter(batch[i].original, err))
	}
	return rest, f.setAside(ctx, letters)
}

func onlyRejections(partial *delivery.Partial) bool {
	for _, err := range partial.Failed {
		if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject {
			return false
		}
	}
	return len(partial.Failed) > 0
}
