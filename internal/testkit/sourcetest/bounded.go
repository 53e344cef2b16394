package sourcetest

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

const (
	// aWait is how long a fetch may find nothing before it counts as held up.
	aWait = time.Second
	// backlog is a backlog in MiB, and most what a source may hold of it.
	backlog = 96
	most    = 64 << 20
)

// stopsDelivering acknowledges nothing until nothing comes any more, and then all.
func stopsDelivering(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 2*f.MaxUnacknowledged+batch)
	h.Publish(t, want)
	var held []message.Delivery
	var got []message.Envelope
	for {
		short, cancel := context.WithTimeout(ctx, aWait)
		delivered, err := source.Fetch(short, batch)
		cancel()
		if err != nil {
			break
		}
		held = append(held, delivered)
		if got = append(got, delivered.Envelopes...); len(got) > f.MaxUnacknowledged {
			t.Fatalf("%d messages were delivered and none acknowledged; the bound is %d", len(got), f.MaxUnacknowledged)
		}
	}
	if len(got) == 0 {
		t.Fatal("nothing was delivered")
	}
	for _, delivered := range held {
		if err := delivered.Acknowledge(ctx); err != nil {
			t.Fatalf("acknowledge: %v", err)
		}
	}
	same(t, f, append(got, read(ctx, t, source, len(want)-len(got))...), want)
}

// holdsLittle lets a source sit before a backlog that nobody fetches.
func holdsLittle(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	want := sinktest.Envelopes(h.Destination, 1, backlog)
	body := bytes.Repeat([]byte("x"), mebibyte-2) // one for all: the source's own copies count
	body[0], body[len(body)-1] = '"', '"'
	for i := range want {
		want[i].Body = body
	}
	h.Publish(t, want)
	source := h.New(t)
	before := inUse()
	if err := source.Open(ctx); err != nil {
		t.Fatalf("open: %v", err)
	}
	defer closed(ctx, t, source)
	first := fetch(ctx, t, source, 1)
	if grown := inUse() - before; grown > most {
		t.Fatalf("a source from which %d message was fetched holds %d MiB", len(first.Envelopes), grown>>20)
	}
	runtime.KeepAlive(first)
}

// inUse is what is alive on the heap, in bytes. Other tests run beside this
// one; what they hold is small against the bound.
func inUse() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
