// Package sinktest is the conformance suite that every sink passes. It
// asserts what the engine relies on and refuses to look inside a sink.
package sinktest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
)

const caseTimeout = 60 * time.Second

// Features are the honest differences between sinks.
type Features struct {
	// DropsDuplicates says that the far end stores an event id once.
	DropsDuplicates bool
	// MaxBytes is a size of body that the far end of the harness refuses; 0 when there is none.
	MaxBytes int
	// Headers says that the far end keeps headers.
	Headers bool
}

// Harness is one fresh far end.
type Harness struct {
	// New makes a sink that is not opened.
	New func(t testing.TB) relay.Sink
	// Stored returns what the far end holds, in its order.
	Stored func(t testing.TB) []message.Envelope
	// Restart stops the far end and starts it again with its data.
	Restart func(t testing.TB)
	// Destination is a subject that the sink may send to.
	Destination string
}

// Run runs the suite; start makes a fresh far end for each case.
func Run(t *testing.T, features Features, start func(t *testing.T) Harness) {
	cases := map[string]func(*testing.T, Features, Harness){
		"delivers in order":                        deliversInOrder,
		"acknowledges batches sent before waiting": pipelines,
		"resends after a restart of the far end":   resendsAfterRestart,
		"resent events are stored once":            storesOnce,
		"refuses the too large before sending":     refusesTooLarge,
		"keeps headers and body":                   keepsHeaders,
		"can be opened and closed again and again": opensAgain,
		"fails before it was opened":               failsUnopened,
		"gives up when the context ends":           givesUp,
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, features, start(t))
		})
	}
}

// Envelopes makes n envelopes whose bodies are their numbers from first on.
func Envelopes(destination string, first, n int) []message.Envelope {
	envelopes := make([]message.Envelope, n)
	for i := range envelopes {
		number := first + i
		envelopes[i] = message.Envelope{
			Destination: destination,
			EventID:     fmt.Sprintf("00000000-0000-4000-8000-%012d", number),
			Key:         fmt.Sprint(number % 3),
			Body:        fmt.Appendf(nil, `{"n":%d}`, number),
		}
	}
	return envelopes
}

func deliversInOrder(t *testing.T, _ Features, h Harness) {
	ctx := limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 500)
	mustSend(ctx, t, sink, want)
	sameBodies(t, h.Stored(t), want)
}

func pipelines(t *testing.T, _ Features, h Harness) {
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

func resendsAfterRestart(t *testing.T, features Features, h Harness) {
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

func storesOnce(t *testing.T, features Features, h Harness) {
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

func refusesTooLarge(t *testing.T, features Features, h Harness) {
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

// OddHeaders are values that travel unchanged. Blanks at the ends and line
// breaks do not: the wire formats encode them.
func OddHeaders() []message.Header {
	return []message.Header{
		{Name: "ce-id", Value: "1"},
		{Name: "ce-type", Value: "order.created"},
		{Name: "Empty", Value: ""},
		{Name: "UPPER-and-lower", Value: "UPPER and lower"},
		{Name: "colon", Value: "a: b, c; d=\"e\""},
		{Name: "percent", Value: "%0A%20%C3%A4"},
		{Name: "unicode", Value: "Größe 漢字 🌊"},
		{Name: "long", Value: strings.Repeat("0123456789", 200)},
		{Name: "x_under.dot~", Value: "\x01"},
	}
}

func keepsHeaders(t *testing.T, features Features, h Harness) {
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

func opensAgain(t *testing.T, _ Features, h Harness) {
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

func failsUnopened(t *testing.T, _ Features, h Harness) {
	ctx := limited(t)
	sink := h.New(t)
	closed(ctx, t, sink)
	if _, err := sink.Send(ctx, Envelopes(h.Destination, 1, 1)); err == nil {
		t.Fatal("a sink that was never opened took an event")
	}
}

func givesUp(t *testing.T, _ Features, h Harness) {
	sink := h.New(t)
	ended, cancel := context.WithCancel(limited(t))
	cancel()
	if err := sink.Open(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("open with a context that has ended: %v", err)
	}
}

func opened(ctx context.Context, t *testing.T, h Harness) relay.Sink {
	t.Helper()
	sink := h.New(t)
	if err := sink.Open(ctx); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closed(context.WithoutCancel(ctx), t, sink) })
	return sink
}

func closed(ctx context.Context, t *testing.T, sink relay.Sink) {
	t.Helper()
	if err := sink.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func mustSend(ctx context.Context, t *testing.T, sink relay.Sink, envelopes []message.Envelope) {
	t.Helper()
	receipt, err := sink.Send(ctx, envelopes)
	if err != nil {
		t.Fatalf("send: %v", err)
	}
	if err := receipt.Wait(ctx); err != nil {
		t.Fatalf("wait: %v", err)
	}
}

func sameBodies(t *testing.T, stored, want []message.Envelope) {
	t.Helper()
	if len(stored) != len(want) {
		t.Fatalf("stored %d events, want %d", len(stored), len(want))
	}
	for i := range want {
		if string(stored[i].Body) != string(want[i].Body) {
			t.Fatalf("event %d: stored %q, want %q", i, stored[i].Body, want[i].Body)
		}
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
