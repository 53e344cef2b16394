package conformance

import (
	"context"
	"testing"
	"time"
)

// patience bounds a case. Machines are slow at times, and a broker that was
// killed takes its time to come back.
const patience = 3 * time.Minute

// Limited returns a context that bounds the case.
func Limited(t testing.TB) context.Context {
	limit := patience
	if p, ok := t.(*probe); ok {
		limit = p.patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// Retry runs try until it succeeds; the context bounds it.
func Retry(ctx context.Context, t testing.TB, try func() error) {
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

// Returns fails t when work does not return before the context ends.
func Returns(ctx context.Context, t testing.TB, what string, work func()) {
	t.Helper()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		work()
	}()
	select {
	case <-returned:
	case <-ctx.Done():
		t.Fatalf("%s does not return", what)
	}
}
