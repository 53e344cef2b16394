// Package sourcetest is the conformance suite that every source passes. It
// asserts what the engine relies on and refuses to look inside a source.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

const (
	caseTimeout = 60 * time.Second
	batch       = 50
)

// Features are the honest differences between sources.
type Features struct {
	// Headers says that the far end keeps headers.
	Headers bool
	// MessageIDs says that the far end keeps message ids.
	MessageIDs bool
}

// Harness is one fresh far end.
type Harness struct {
	// New makes a source that is not opened; all of a harness read through
	// the same durable place, for the same database.
	New func(t testing.TB) relay.Source
	// Publish stores envelopes at the far end, in order.
	Publish func(t testing.TB, envelopes []message.Envelope)
	// Crash ends the source's session as the death of its process would.
	Crash func(t testing.TB, source relay.Source)
	// Restart stops the far end and starts it again with its data.
	Restart func(t testing.TB)
	// Destination is a subject that the source reads.
	Destination string
}

// Run runs the suite; start makes a fresh far end for each case.
func Run(t *testing.T, features Features, start func(t *testing.T) Harness) {
	cases := map[string]func(*testing.T, Features, Harness){
		"reads in order what was and what is published":    readsInOrder,
		"what was acknowledged does not come again":        remembers,
		"what was not acknowledged comes again and first":  comesAgain,
		"after a crash the unacknowledged come before all": crashes,
		"goes on after a restart of the far end":           survivesRestart,
		"keeps headers, body and coordinates":              keepsEnvelope,
		"returns when the context ends":                    givesUp,
		"can be opened and closed again and again":         opensAgain,
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, features, start(t))
		})
	}
}

func readsInOrder(t *testing.T, _ Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 400)
	h.Publish(t, want[:300])
	same(t, read(ctx, t, source, 300), want[:300])
	h.Publish(t, want[300:])
	same(t, read(ctx, t, source, 100), want[300:])
}

func remembers(t *testing.T, _ Features, h Harness) {
	ctx := limited(t)
	source := opened(ctx, t, h)
	want := sinktest.Envelopes(h.Destination, 1, 100)
	h.Publish(t, want)
	same(t, read(ctx, t, source, 60), want[:60])
	reopen(ctx, t, source)
	same(t, read(ctx, t, source, 40), want[60:])
}

func comesAgain(t *testing.T, _ Features, h Harness) {
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

func crashes(t *testing.T, _ Features, h Harness) {
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

func survivesRestart(t *testing.T, _ Features, h Harness) {
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

func keepsEnvelope(t *testing.T, features Features, h Harness) {
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

func givesUp(t *testing.T, _ Features, h Harness) {
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

func opensAgain(t *testing.T, _ Features, h Harness) {
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

// read fetches and acknowledges until it has n envelopes.
func read(ctx context.Context, t *testing.T, source relay.Source, n int) []message.Envelope {
	t.Helper()
	var got []message.Envelope
	for len(got) < n {
		got = append(got, fetchAndAcknowledge(ctx, t, source, min(batch, n-len(got)))...)
	}
	return got
}

func fetchAndAcknowledge(ctx context.Context, t *testing.T, source relay.Source, limit int) []message.Envelope {
	t.Helper()
	delivered := fetch(ctx, t, source, limit)
	if err := delivered.Acknowledge(ctx); err != nil {
		t.Fatalf("acknowledge: %v", err)
	}
	return delivered.Envelopes
}

func fetch(ctx context.Context, t *testing.T, source relay.Source, limit int) message.Delivery {
	t.Helper()
	delivered, err := source.Fetch(ctx, limit)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	if len(delivered.Envelopes) > limit {
		t.Fatalf("fetched %d envelopes, asked for %d at most", len(delivered.Envelopes), limit)
	}
	return delivered
}

func same(t *testing.T, got, want []message.Envelope) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("read %d messages, want %d", len(got), len(want))
	}
	for i := range want {
		if string(got[i].Body) != string(want[i].Body) {
			t.Fatalf("message %d: read %s, want %s", i, summary(got[i:]), summary(want[i:]))
		}
	}
}

func summary(envelopes []message.Envelope) string {
	text := ""
	for i := range envelopes[:min(5, len(envelopes))] {
		text += fmt.Sprintf("%q ", envelopes[i].Body)
	}
	return text
}

func opened(ctx context.Context, t *testing.T, h Harness) relay.Source {
	t.Helper()
	source := h.New(t)
	if err := source.Open(ctx); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closed(context.WithoutCancel(ctx), t, source) })
	return source
}

func reopen(ctx context.Context, t *testing.T, source relay.Source) {
	t.Helper()
	closed(ctx, t, source)
	if err := source.Open(ctx); err != nil {
		t.Fatalf("open again: %v", err)
	}
}

func closed(ctx context.Context, t *testing.T, source relay.Source) {
	t.Helper()
	if err := source.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), caseTimeout)
	t.Cleanup(cancel)
	return ctx
}

// retry runs try until it succeeds; the case's context bounds it.
func retry(ctx context.Context, t *testing.T, try func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("retried in vain: %v", err)
		}
	}
}
