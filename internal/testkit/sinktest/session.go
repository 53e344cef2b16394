package sinktest

import (
	"context"
	"errors"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// outstanding is how many batches are sent before the first is waited for.
const outstanding = 3

func opened(ctx context.Context, t testing.TB, h Harness) relay.Sink {
	t.Helper()
	sink := h.New(t)
	if err := sink.Open(ctx); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closed(context.WithoutCancel(ctx), t, sink) })
	return sink
}

func closed(ctx context.Context, t testing.TB, sink relay.Sink) {
	t.Helper()
	if err := sink.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// send sends one batch and waits for it.
func send(ctx context.Context, sink relay.Sink, envelopes []message.Envelope) error {
	receipt, err := sink.Send(ctx, envelopes)
	if err != nil {
		return err
	}
	return receipt.Wait(ctx)
}

func mustSend(ctx context.Context, t testing.TB, sink relay.Sink, envelopes []message.Envelope) {
	t.Helper()
	if err := send(ctx, sink, envelopes); err != nil {
		t.Fatalf("send and wait: %v", err)
	}
}

// same fails t unless the far end holds what was sent, once and in order.
func same(t testing.TB, f Features, stored, want []message.Envelope) {
	t.Helper()
	conformance.Exactly(t, conformance.Kept(f.Lacks, f.OrderByKey), stored, want)
}

// arrived is the same after something was sent again: where the far end does
// not know duplicates, there may be some.
func arrived(t testing.TB, f Features, stored, want []message.Envelope) {
	t.Helper()
	if f.DropsDuplicates {
		same(t, f, stored, want)
		return
	}
	conformance.AtLeastOnce(t, conformance.Kept(f.Lacks, f.OrderByKey), stored, want)
}

// engine sends as the engine does: several batches outstanding, and after any
// error a new session, from the first event that was not acknowledged.
type engine struct {
	sink relay.Sink
	all  []message.Envelope
	size int
	// amid is called in place of sending the batch of that number, once, and
	// sends it while something happens to the far end.
	amid map[int]func(ctx context.Context, send func(ctx context.Context) error) error

	acknowledged int
}

func (e *engine) run(ctx context.Context, t testing.TB) {
	t.Helper()
	conformance.Retry(ctx, t, func() error {
		err := e.session(ctx)
		var partial *delivery.Partial
		if errors.As(err, &partial) {
			t.Fatalf("events that are none's fault were refused: %v", err)
		}
		if err != nil && ctx.Err() == nil {
			if opening := e.sink.Open(ctx); opening != nil {
				return opening
			}
		}
		return err
	})
}

// session goes on until all is acknowledged or something fails.
func (e *engine) session(ctx context.Context) error {
	type sent struct {
		receipt delivery.Receipt
		upTo    int
	}
	var waiting []sent
	for next := e.acknowledged; e.acknowledged < len(e.all); {
		for len(waiting) < outstanding && next < len(e.all) {
			end := min(next+e.size, len(e.all))
			var receipt delivery.Receipt
			one := func(ctx context.Context) (err error) {
				receipt, err = e.sink.Send(ctx, e.all[next:end])
				return err
			}
			amid := e.amid[next/e.size]
			delete(e.amid, next/e.size)
			var err error
			if amid != nil {
				err = amid(ctx, one)
			} else {
				err = one(ctx)
			}
			if err != nil {
				return err
			}
			waiting = append(waiting, sent{receipt, end})
			next = end
		}
		if err := waiting[0].receipt.Wait(ctx); err != nil {
			return err
		}
		e.acknowledged, waiting = waiting[0].upTo, waiting[1:]
	}
	return nil
}
