package sourcetest

import (
	"context"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func readsInOrder(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 400)
	h.Publish(t, want[:300])
	same(t, f, read(ctx, t, source, 300), want[:300])
	h.Publish(t, want[300:])
	same(t, f, read(ctx, t, source, 100), want[300:])
}

func remembers(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 100)
	h.Publish(t, want)
	got := read(ctx, t, source, 60)
	reopen(ctx, t, source)
	same(t, f, append(got, read(ctx, t, source, 40)...), want)
}

func comesAgain(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 100)
	h.Publish(t, want)
	if got := fetch(ctx, t, source, 20); len(got.Envelopes) == 0 {
		t.Fatal("an empty delivery")
	}
	reopen(ctx, t, source)
	same(t, f, read(ctx, t, source, 100), want)
}

func saysWhy(t testing.TB, need conformance.Need, h Harness) {
	ctx := conformance.Limited(t)
	r := h.Wrong[need](t)
	t.Cleanup(func() { closed(context.WithoutCancel(ctx), t, r.End) })
	err := r.End.Open(ctx)
	if err == nil {
		_, err = r.End.Fetch(ctx, 1)
	}
	conformance.CheckRefusal(t, need, r, err)
}

func knowsItsKeys(t testing.TB, f Features, _ Harness) {
	conformance.CheckKeys(t, conformance.Technology(t, f.Technology).SourceFields)
}
