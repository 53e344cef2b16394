package sinktest

import (
	"context"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
)

func opened(ctx context.Context, t testing.TB, h Harness) relay.Sink {
	t.Helper()
	sink := h.New(t)
	if err := sink.Open(ctx); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closed(context.WithoutCancel(ctx), t, sink) })
	return sink
}

func closed(ctx context.Context, t testing.TB, sink relay.Sink) {
	t.Helper()
	if err := sink.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func mustSend(ctx context.Context, t testing.TB, sink relay.Sink, envelopes []message.Envelope) {
	t.Helper()
	receipt, err := sink.Send(ctx, envelopes)
	if err != nil {
		t.Fatalf("send: %v", err)
	}
	if err := receipt.Wait(ctx); err != nil {
		t.Fatalf("wait: %v", err)
	}
}

func sameBodies(t testing.TB, stored, want []message.Envelope) {
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

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), caseTimeout)
	t.Cleanup(cancel)
	return ctx
}

// retry runs try until it succeeds; the case's context bounds it.
func retry(ctx context.Context, t testing.TB, try func() error) {
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
