package cache_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIsWhereTheVariableSays(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(cache.Variable, dir)
	if got, err := cache.Dir("kafka"); err != nil || got != filepath.Join(dir, "kafka") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestNameIsHeldUntilItIsReleased(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release, err := cache.Lock(t.Context(), dir, "one")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := cache.Lock(ctx, dir, "one"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a name that is held was given away: %v", err)
	}
	other, err := cache.Lock(t.Context(), dir, "two")
	if err != nil {
		t.Fatal(err)
	}
	other()
	release()
	again, err := cache.Lock(t.Context(), dir, "one")
	if err != nil {
		t.Fatal(err)
	}
	again()
}
