package e2e

import (
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// eventually asks again until the condition holds. It is for states that have
// no signal of their own, such as a view.
func eventually(t *testing.T, condition func() (bool, string)) {
	t.Helper()
	deadline := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		holds, what := condition()
		if holds {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("still not so after %s: %s", patience, what)
		}
	}
}
