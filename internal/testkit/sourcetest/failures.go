package sourcetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func crashes(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 200)
	h.Publish(t, want[:100])
	done := fetchAndAcknowledge(ctx, t, source, 10)
	fetch(ctx, t, source, 10)
	h.Crash(t, source)
	h.Publish(t, want[100:])
	reopen(ctx, t, source)
	same(t, f, append(done, read(ctx, t, source, 200-len(done))...), want)
}

func survivesRestart(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 200)
	h.Publish(t, want[:100])
	got := read(ctx, t, source, 50)
	fetch(ctx, t, source, 10)
	h.Restart(t)
	h.Publish(t, want[100:])
	conformance.Retry(ctx, t, func() error { return source.Open(ctx) })
	same(t, f, append(got, read(ctx, t, source, 150)...), want)
}

func crashedAmid(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	goesOnAfter(ctx, t, f, h, &engine{source: source}, func() error { h.Crash(t, source); return nil })
}

func restartedAmid(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	goesOnAfter(ctx, t, f, h, &engine{source: opened(ctx, t, h)}, func() error { h.Restart(t); return nil })
}

func killedAmid(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	goesOnAfter(ctx, t, f, h, &engine{source: opened(ctx, t, h)}, func() error { h.Kill(t); return nil })
}

func cutAmid(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	goesOnAfter(ctx, t, f, h, &engine{source: opened(ctx, t, h)}, func() error { h.Cut(t); return nil })
}

// moment is how long the far end hangs.
const moment = 300 * time.Millisecond

func frozenAmid(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	goesOnAfter(ctx, t, f, h, &engine{source: source}, func() error {
		defer h.Freeze(t)()
		short, cancel := context.WithTimeout(ctx, moment)
		defer cancel()
		conformance.Returns(ctx, t, "fetching from a far end that hangs", func() {
			for short.Err() == nil {
				if _, err := source.Fetch(short, batch); err != nil {
					return // what it had before it was frozen comes first
				}
			}
		})
		return errors.New("the relay loses its patience")
	})
}

// goesOnAfter reads while trouble happens, once after a commit and once before
// one, and more is published.
func goesOnAfter(ctx context.Context, t testing.TB, f Features, h Harness, e *engine, trouble func() error) {
	t.Helper()
	want := sinktest.Envelopes(h.Destination, 1, 900)
	h.Publish(t, want[:600])
	e.amid = map[int]accident{200: {happens: trouble}, 400: {happens: trouble, before: true}}
	e.run(ctx, t, 600)
	if len(e.amid) > 0 {
		t.Fatal("the trouble did not happen amid the batches")
	}
	h.Publish(t, want[600:])
	e.run(ctx, t, len(want))
	conformance.AtLeastOnce(t, conformance.Kept(f.Lacks, f.OrderByKey), e.got, want)
}
