package sinktest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

func opensAgain(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := h.New(t)
	want := Envelopes(h.Destination, 1, 10)
	for i := range want {
		if err := sink.Open(ctx); err != nil {
			t.Fatalf("open: %v", err)
		}
		mustSend(ctx, t, sink, want[i:i+1])
		if i%2 == 0 {
			closed(ctx, t, sink)
		}
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { closed(ctx, t, sink) })
	}
	all.Wait()
	same(t, f, h.Stored(t), want)
	if _, err := sink.Send(ctx, want[:1]); err == nil {
		t.Fatal("a sink that was closed took an event")
	}
}

func failsUnopened(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := h.New(t)
	closed(ctx, t, sink)
	if _, err := sink.Send(ctx, Envelopes(h.Destination, 1, 1)); err == nil {
		t.Fatal("a sink that was never opened took an event")
	}
}

func givesUp(t testing.TB, _ Features, h Harness) {
	sink := h.New(t)
	ended, cancel := context.WithCancel(conformance.Limited(t))
	cancel()
	if err := sink.Open(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("open with a context that has ended: %v", err)
	}
	closed(conformance.Limited(t), t, sink)
}

// closesAmid closes with batches outstanding. Whoever waits for one learns of
// its end, one way or the other, and what was acknowledged is there.
func closesAmid(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	all := Envelopes(h.Destination, 1, 600)
	var receipts []delivery.Receipt
	for first := 0; first < len(all); first += 200 {
		receipt, err := sink.Send(ctx, all[first:first+200])
		if err != nil {
			t.Fatalf("send: %v", err)
		}
		receipts = append(receipts, receipt)
	}
	results := make([]error, len(receipts))
	var waiting sync.WaitGroup
	for i, receipt := range receipts {
		waiting.Go(func() { results[i] = receipt.Wait(ctx) })
	}
	conformance.Returns(ctx, t, "closing with batches outstanding", func() { closed(ctx, t, sink) })
	conformance.Returns(ctx, t, "waiting for a batch of a closed sink", waiting.Wait)
	if ctx.Err() != nil {
		t.Fatal("who waits for a batch learns of the sink's end only by a context of his own")
	}
	stored := map[string]bool{}
	for _, e := range h.Stored(t) {
		stored[string(e.Body)] = true
	}
	for i, err := range results {
		if err != nil {
			continue
		}
		if slices.ContainsFunc(all[i*200:i*200+200], func(e message.Envelope) bool { return !stored[string(e.Body)] }) {
			t.Fatalf("batch %d was acknowledged, and is not there", i)
		}
	}
}

// givesUpFrozen opens, for a moment, a far end that hangs.
func givesUpFrozen(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := h.New(t)
	thaw := h.Freeze(t)
	short, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	var err error
	conformance.Returns(ctx, t, "opening a far end that hangs, after its context has ended,", func() { err = sink.Open(short) })
	thaw()
	if err == nil {
		t.Error("a far end that hangs was opened")
	}
	conformance.Retry(ctx, t, func() error { return sink.Open(ctx) })
	closed(ctx, t, sink)
}

// closing bounds Close with the five seconds in mind that a relay has to go,
// and leaves room for a slow machine.
const closing = 30 * time.Second

func closesFrozen(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	thaw := h.Freeze(t)
	defer thaw()
	short, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	conformance.Returns(ctx, t, "sending to a far end that hangs", func() { _ = send(short, sink, Envelopes(h.Destination, 1, 100)) })
	soon, enough := context.WithTimeout(ctx, closing)
	defer enough()
	conformance.Returns(soon, t, "closing while the far end hangs", func() { closed(ctx, t, sink) })
}

func leavesNothing(t testing.TB, _ Features, h Harness) { leaves(t, h, func() {}) }

func leavesNothingCut(t testing.TB, _ Features, h Harness) { leaves(t, h, func() { h.Cut(t) }) }

// leaves goes through the life of a sink, twice, with trouble at its end.
func leaves(t testing.TB, h Harness, trouble func()) {
	t.Helper()
	ctx := conformance.Limited(t)
	sink := h.New(t)
	conformance.LeavesNoGoroutine(ctx, t, func(ctx context.Context) {
		for range 2 {
			conformance.Retry(ctx, t, func() error { return sink.Open(ctx) })
			mustSend(ctx, t, sink, Envelopes(h.Destination, 1, 100))
			if _, err := sink.Send(ctx, Envelopes(h.Destination, 101, 100)); err != nil {
				t.Fatalf("send: %v", err)
			}
		}
		trouble()
		closed(ctx, t, sink)
	})
}
