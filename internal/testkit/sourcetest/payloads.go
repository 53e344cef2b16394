package sourcetest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

const mebibyte = 1 << 20

// passOn publishes what was made and returns what is read.
func passOn(t testing.TB, f Features, h Harness, sent []message.Envelope) []message.Envelope {
	t.Helper()
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	h.Publish(t, sent)
	got := read(ctx, t, source, len(sent))
	same(t, f, got, sent)
	return got
}

// find returns what was read with that body.
func find(got []message.Envelope, body []byte) *message.Envelope {
	for i := range got {
		if bytes.Equal(got[i].Body, body) {
			return &got[i]
		}
	}
	return &message.Envelope{}
}

func keepsBodies(t testing.TB, f Features, h Harness, bodies ...[]byte) {
	t.Helper()
	sent := sinktest.Envelopes(h.Destination, 1, len(bodies))
	for i := range sent {
		sent[i].Body = bodies[i]
	}
	passOn(t, f, h, sent)
}

func keepsText(t testing.TB, f Features, h Harness) { keepsBodies(t, f, h, sinktest.Texts()...) }

func keepsEmpty(t testing.TB, f Features, h Harness) { keepsBodies(t, f, h, []byte{}) }

func keepsBinary(t testing.TB, f Features, h Harness) { keepsBodies(t, f, h, sinktest.Binaries()...) }

func keepsLarge(t testing.TB, f Features, h Harness) {
	keepsBodies(t, f, h, []byte(`"`+strings.Repeat("x", mebibyte-2)+`"`))
}

func keepsHeaders(t testing.TB, f Features, h Harness) {
	odd := f.HeadersKept
	if len(odd) == 0 {
		odd = sinktest.OddHeaders()
	}
	sent := sinktest.Envelopes(h.Destination, 1, 2)
	sent[0].Headers = odd
	got := find(passOn(t, f, h, sent), sent[0].Body)
	if len(got.Headers) != len(odd) && !f.HeadersAdded {
		t.Errorf("%d headers, sent %d: %v", len(got.Headers), len(odd), got.Headers)
	}
	for _, header := range odd {
		if value := got.Header(header.Name); value != header.Value {
			t.Errorf("header %s: sent %q, read %q", header.Name, header.Value, value)
		}
	}
}

func keepsEventID(t testing.TB, f Features, h Harness) {
	sent := sinktest.Envelopes(h.Destination, 1, 5)
	sent[3].EventID = ""
	got := passOn(t, f, h, sent)
	for i := range sent {
		if id := find(got, sent[i].Body).EventID; id != sent[i].EventID {
			t.Errorf("message id %q, sent %q", id, sent[i].EventID)
		}
	}
}

// keepsCoordinates wants them to be the same when a message comes again: they
// are the event id of whoever sent none.
func keepsCoordinates(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	source := opened(ctx, t, h)
	sent := sinktest.Envelopes(h.Destination, 1, 20)
	h.Publish(t, sent)
	first := map[string]string{}
	for _, e := range fetch(ctx, t, source, 20).Envelopes {
		first[string(e.Body)] = e.Coordinates
	}
	reopen(ctx, t, source)
	seen := map[string]bool{}
	for _, e := range read(ctx, t, source, len(sent)) {
		if e.Coordinates == "" || seen[e.Coordinates] {
			t.Errorf("coordinates %q are empty or not its own", e.Coordinates)
		}
		seen[e.Coordinates] = true
		if before, again := first[string(e.Body)]; again && before != e.Coordinates {
			t.Errorf("coordinates were %q, and %q when the message came again", before, e.Coordinates)
		}
	}
}

func keepsOrigin(t testing.TB, f Features, h Harness) {
	for _, e := range passOn(t, f, h, sinktest.Envelopes(h.Destination, 1, 3)) {
		if e.Destination != h.Destination {
			t.Errorf("came from %q, was sent to %q", e.Destination, h.Destination)
		}
		if e.Time.IsZero() {
			t.Error("no time of storage")
		}
	}
}
