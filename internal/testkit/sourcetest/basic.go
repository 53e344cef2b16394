package sourcetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func readsInOrder(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 400)
	h.Publish(t, want[:300])
	same(t, read(ctx, t, source, 300), want[:300])
	h.Publish(t, want[300:])
	same(t, read(ctx, t, source, 100), want[300:])
}

func remembers(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 100)
	h.Publish(t, want)
	same(t, read(ctx, t, source, 60), want[:60])
	reopen(ctx, t, source)
	same(t, read(ctx, t, source, 40), want[60:])
}

func comesAgain(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 100)
	h.Publish(t, want)
	if got := fetch(ctx, t, source, 20); len(got.Envelopes) == 0 {
		t.Fatal("an empty delivery")
	}
	reopen(ctx, t, source)
	same(t, read(ctx, t, source, 100), want)
}

func crashes(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 200)
	h.Publish(t, want[:100])
	done := len(fetchAndAcknowledge(ctx, t, source, 10))
	fetch(ctx, t, source, 10)
	h.Crash(t, source)
	h.Publish(t, want[100:])
	reopen(ctx, t, source)
	same(t, read(ctx, t, source, 200-done), want[done:])
}

func survivesRestart(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 200)
	h.Publish(t, want[:100])
	same(t, read(ctx, t, source, 50), want[:50])
	fetch(ctx, t, source, 10)
	h.Restart(t)
	h.Publish(t, want[100:])
	retry(ctx, t, func() error { return source.Open(ctx) })
	same(t, read(ctx, t, source, 150), want[50:])
}

func keepsEnvelope(t testing.TB, features Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	sent := sinktest.Envelopes(h.Destination, 1, 3)
	sent[0].Headers = sinktest.OddHeaders()
	sent[1].Body = []byte{0, 0xff, '\r', '\n'}
	sent[2].EventID = ""
	h.Publish(t, sent)
	got := read(ctx, t, source, 3)
	same(t, got, sent)
	seen := map[string]bool{}
	for i := range got {
		if seen[got[i].Coordinates] || got[i].Coordinates == "" {
			t.Errorf("coordinates %q are empty or not its own", got[i].Coordinates)
		}
		seen[got[i].Coordinates] = true
		if got[i].Destination != h.Destination {
			t.Errorf("came from %q, was sent to %q", got[i].Destination, h.Destination)
		}
		if got[i].Time.IsZero() {
			t.Error("no time of storage")
		}
		if features.MessageIDs && got[i].EventID != sent[i].EventID {
			t.Errorf("message id %q, sent %q", got[i].EventID, sent[i].EventID)
		}
	}
	if !features.Headers {
		return
	}
	if len(got[0].Headers) != len(sent[0].Headers) {
		t.Errorf("%d headers, sent %d", len(got[0].Headers), len(sent[0].Headers))
	}
	for _, header := range sent[0].Headers {
		if value := got[0].Header(header.Name); value != header.Value {
			t.Errorf("header %s: sent %q, read %q", header.Name, header.Value, value)
		}
	}
}

func givesUp(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	short, cancel := context.WithCancel(ctx)
	returned := make(chan error, 1)
	go func() {
		_, err := source.Fetch(short, batch)
		returned <- err
	}()
	cancel()
	if err := <-returned; !errors.Is(err, context.Canceled) {
		t.Fatalf("fetch with a context that ended: %v", err)
	}
}

func opensAgain(t testing.TB, _ Features, h Harness) {
	ctx := limited(t)
	source := h.New(t)
	want := sinktest.Envelopes(h.Destination, 1, 50)
	h.Publish(t, want)
	for i := range 5 {
		if err := source.Open(ctx); err != nil {
			t.Fatalf("open: %v", err)
		}
		same(t, read(ctx, t, source, 10), want[i*10:i*10+10])
		closed(ctx, t, source)
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { closed(ctx, t, source) })
	}
	all.Wait()
	if _, err := source.Fetch(ctx, batch); err == nil {
		t.Fatal("a closed source delivered")
	}
}
