package sinktest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

const (
	// mostTaken is what a sink may hold of events that nobody acknowledges, in
	// bytes: the engine keeps less outstanding, and this guards the machine.
	mostTaken = 256 << 20
	bodyBytes = 16 << 10
	// aBlock is how long Send may block before it counts as having stopped.
	aBlock = 3 * time.Second
)

// stopsTaking sends to a far end that hangs, batch after batch. Send has to
// fail, or to block until its context ends: either holds the engine up.
func stopsTaking(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	mustSend(ctx, t, sink, Envelopes(h.Destination, 1, 1))
	thaw := h.Freeze(t)
	defer thaw()
	body := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), bodyBytes-2)...), '"') // one for all: the sink's own copies count
	const size = 100
	for taken := 0; taken < mostTaken; taken += size * bodyBytes {
		batch := Envelopes(h.Destination, 2+taken/bodyBytes, size)
		for i := range batch {
			batch[i].Body = body
		}
		short, cancel := context.WithTimeout(ctx, aBlock)
		var err error
		conformance.Returns(ctx, t, "Send to a far end that hangs, after its context has ended,", func() { _, err = sink.Send(short, batch) })
		cancel()
		if err != nil {
			t.Logf("it stops after %d KiB: %v", taken>>10, err)
			soon, enough := context.WithTimeout(ctx, closing)
			defer enough()
			conformance.Returns(soon, t, "closing while the far end hangs and takes nothing more", func() { closed(ctx, t, sink) })
			return
		}
	}
	t.Fatalf("the sink took %d MiB while the far end acknowledged nothing", mostTaken>>20)
}
