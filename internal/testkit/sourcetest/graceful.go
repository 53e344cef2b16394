package sourcetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func givesUp(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	short, cancel := context.WithCancel(ctx)
	returned := make(chan error, 1)
	go func() {
		_, err := source.Fetch(short, batch)
		returned <- err
	}()
	cancel()
	select {
	case err := <-returned:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("fetch with a context that ended: %v", err)
		}
	case <-ctx.Done():
		t.Fatal("fetch does not return when its context ends")
	}
}

func givesUpOpening(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	source := h.New(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := source.Open(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("open with a context that has ended: %v", err)
	}
	closed(ctx, t, source)
}

func failsUnopened(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	source := h.New(t)
	closed(ctx, t, source)
	if _, err := source.Fetch(ctx, batch); err == nil || ctx.Err() != nil {
		t.Fatal("a source that was never opened delivered, or waits")
	}
}

func opensAgain(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := h.New(t)
	want := sinktest.Envelopes(h.Destination, 1, 50)
	h.Publish(t, want)
	got := want[:0:0]
	for range 5 {
		if err := source.Open(ctx); err != nil {
			t.Fatalf("open: %v", err)
		}
		got = append(got, read(ctx, t, source, 10)...)
		closed(ctx, t, source)
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { closed(ctx, t, source) })
	}
	all.Wait()
	same(t, f, got, want)
	if _, err := source.Fetch(ctx, batch); err == nil {
		t.Fatal("a closed source delivered")
	}
}

func closesWaiting(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	h.Publish(t, sinktest.Envelopes(h.Destination, 1, 1))
	read(ctx, t, source, 1)
	returned := make(chan error, 1)
	go func() {
		_, err := source.Fetch(ctx, batch)
		returned <- err
	}()
	// Nothing says that it waits by now. A right source passes either way.
	asleep, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	<-asleep.Done()
	conformance.Returns(ctx, t, "closing while it waits for messages", func() { closed(ctx, t, source) })
	select {
	case err := <-returned:
		if err == nil {
			t.Fatal("a closed source delivered")
		}
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		t.Fatal("who waits for messages does not learn that the source was closed")
	}
}

// givesUpFrozen opens, for a moment, a far end that hangs.
func givesUpFrozen(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	source := h.New(t)
	thaw := h.Freeze(t)
	short, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	var err error
	conformance.Returns(ctx, t, "opening a far end that hangs, after its context has ended,", func() { err = source.Open(short) })
	thaw()
	if err == nil {
		t.Error("a far end that hangs was opened")
	}
	conformance.Retry(ctx, t, func() error { return source.Open(ctx) })
	closed(ctx, t, source)
}

// closing bounds Close with the five seconds in mind that a relay has to go,
// and leaves room for a slow machine.
const closing = 30 * time.Second

func closesFrozen(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	h.Publish(t, sinktest.Envelopes(h.Destination, 1, 20))
	fetch(ctx, t, source, 10)
	thaw := h.Freeze(t)
	defer thaw()
	soon, enough := context.WithTimeout(ctx, closing)
	defer enough()
	conformance.Returns(soon, t, "closing while the far end hangs", func() { closed(ctx, t, source) })
}

func leavesNothing(t testing.TB, _ Features, h Harness) { leaves(t, h, func() {}) }

func leavesNothingCut(t testing.TB, _ Features, h Harness) { leaves(t, h, func() { h.Cut(t) }) }

// leaves goes through the life of a source, twice, with trouble at its end.
func leaves(t testing.TB, h Harness, trouble func()) {
	t.Helper()
	ctx := conformance.Limited(t)
	h.Publish(t, sinktest.Envelopes(h.Destination, 1, 200))
	source := h.New(t)
	conformance.LeavesNoGoroutine(ctx, t, func(ctx context.Context) {
		for range 2 {
			conformance.Retry(ctx, t, func() error { return source.Open(ctx) })
			read(ctx, t, source, 50)
			fetch(ctx, t, source, 10)
		}
		trouble()
		closed(ctx, t, source)
	})
}
