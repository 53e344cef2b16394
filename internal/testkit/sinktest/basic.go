package sinktest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

func deliversInOrder(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 500)
	mustSend(ctx, t, sink, want)
	sameBodies(t, h.Stored(t), want)
}

func pipelines(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 1000)
	var receipts []delivery.Receipt
	for first := 0; first < len(want); first += 100 {
		receipt, err := sink.Send(ctx, want[first:first+100])
		if err != nil {
			t.Fatalf("send: %v", err)
		}
		receipts = append(receipts, receipt)
	}
	for _, receipt := range receipts {
		if err := receipt.Wait(ctx); err != nil {
			t.Fatalf("wait: %v", err)
		}
	}
	sameBodies(t, h.Stored(t), want)
}

func resendsAfterRestart(t testing.TB, features Features, h Harness) {
	ctx := limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 300)
	mustSend(ctx, t, sink, want[:100])
	h.Restart(t)
	// What the engine does: until it works, open a new session and resend
	// from the first event that was not acknowledged.
	retry(ctx, t, func() error {
		if err := sink.Open(ctx); err != nil {
			return err
		}
		receipt, err := sink.Send(ctx, want[100:])
		if err != nil {
			return err
		}
		return receipt.Wait(ctx)
	})
	stored := h.Stored(t)
	if !features.DropsDuplicates && len(stored) >= len(want) {
		return
	}
	sameBodies(t, stored, want)
}

func storesOnce(t testing.TB, features Features, h Harness) {
	if !features.DropsDuplicates {
		return
	}
	ctx := limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 100)
	mustSend(ctx, t, sink, want[:60])
	if err := sink.Open(ctx); err != nil {
		t.Fatalf("open again: %v", err)
	}
	mustSend(ctx, t, sink, want)
	sameBodies(t, h.Stored(t), want)
}

func refusesTooLarge(t testing.TB, features Features, h Harness) {
	if features.MaxBytes == 0 {
		return
	}
	ctx := limited(t)
	sink := opened(ctx, t, h)
	batch := Envelopes(h.Destination, 1, 5)
	batch[3].Body = []byte(`"` + strings.Repeat("x", features.MaxBytes) + `"`)
	receipt, err := sink.Send(ctx, batch)
	if err == nil {
		err = receipt.Wait(ctx)
	}
	var partial *delivery.Partial
	if !errors.As(err, &partial) || len(partial.Failed) != 1 {
		t.Fatalf("a too large event gave %v, not a partial failure of one", err)
	}
	if verdict, _ := delivery.VerdictOf(partial.Failed[3]); verdict != delivery.VerdictReject {
		t.Fatalf("a too large event has the verdict %v: %v", verdict, partial.Failed[3])
	}
	if stored := h.Stored(t); len(stored) != 0 {
		t.Fatalf("%d events of a refused batch were sent", len(stored))
	}
	// The sink goes on.
	mustSend(ctx, t, sink, batch[:3])
}

func keepsHeaders(t testing.TB, features Features, h Harness) {
	ctx := limited(t)
	sink := opened(ctx, t, h)
	batch := Envelopes(h.Destination, 1, 3)
	batch[0].Headers = OddHeaders()
	batch[1].Body = []byte{}
	batch[2].Body = []byte{0, 1, 0xff, '\r', '\n'}
	mustSend(ctx, t, sink, batch)
	stored := h.Stored(t)
	sameBodies(t, stored, batch)
	if !features.Headers {
		return
	}
	for _, header := range OddHeaders() {
		if got := stored[0].Header(header.Name); got != header.Value {
			t.Errorf("header %s: sent %q, stored %q", header.Name, header.Value, got)
		}
	}
}

func opensAgain(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
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
	sameBodies(t, h.Stored(t), want)
}

func failsUnopened(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	sink := h.New(t)
	closed(ctx, t, sink)
	if _, err := sink.Send(ctx, Envelopes(h.Destination, 1, 1)); err == nil {
		t.Fatal("a sink that was never opened took an event")
	}
}

func givesUp(t testing.TB, _ Features, h Harness) {
	sink := h.New(t)
	ended, cancel := context.WithCancel(limited(t))
	cancel()
	if err := sink.Open(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("open with a context that has ended: %v", err)
	}
}
