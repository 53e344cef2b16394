package sourcetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
)

// read fetches and acknowledges until it has n envelopes.
func read(ctx context.Context, t testing.TB, source relay.Source, n int) []message.Envelope {
	t.Helper()
	var got []message.Envelope
	for len(got) < n {
		got = append(got, fetchAndAcknowledge(ctx, t, source, min(batch, n-len(got)))...)
	}
	return got
}

func fetchAndAcknowledge(ctx context.Context, t testing.TB, source relay.Source, limit int) []message.Envelope {
	t.Helper()
	delivered := fetch(ctx, t, source, limit)
	if err := delivered.Acknowledge(ctx); err != nil {
		t.Fatalf("acknowledge: %v", err)
	}
	return delivered.Envelopes
}

func fetch(ctx context.Context, t testing.TB, source relay.Source, limit int) message.Delivery {
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

func same(t testing.TB, got, want []message.Envelope) {
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

func opened(ctx context.Context, t testing.TB, h Harness) relay.Source {
	t.Helper()
	source := h.New(t)
	if err := source.Open(ctx); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closed(context.WithoutCancel(ctx), t, source) })
	return source
}

func reopen(ctx context.Context, t testing.TB, source relay.Source) {
	t.Helper()
	closed(ctx, t, source)
	if err := source.Open(ctx); err != nil {
		t.Fatalf("open again: %v", err)
	}
}

func closed(ctx context.Context, t testing.TB, source relay.Source) {
	t.Helper()
	if err := source.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
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
