package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackoffDoublesUpToItsMaximum(t *testing.T) {
	t.Parallel()
	b := retry.Backoff{Initial: 100 * time.Millisecond, Max: time.Second}
	for i, want := range []int{100, 200, 400, 800, 1000, 1000} {
		if got := b.After(i + 1); got != time.Duration(want)*time.Millisecond {
			t.Errorf("after %d failures: %v, want %d ms", i+1, got, want)
		}
	}
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := retry.Backoff{
			Initial: time.Duration(rapid.Int64Range(1, 1e9).Draw(t, "initial")),
			Jitter:  rapid.Float64Range(0, 1).Draw(t, "jitter"),
		}
		b.Max = b.Initial + time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "more"))
		failures := rapid.IntRange(-1, 1e6).Draw(t, "failures")
		got := b.After(failures)
		least := time.Duration(float64(b.Initial)*(1-b.Jitter)) - 1
		if got > b.Max || got < least {
			t.Fatalf("%v is outside %v to %v", got, least, b.Max)
		}
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		begun := time.Now()
		if err := retry.Sleep(ctx, retry.System{}, time.Minute); !errors.Is(err, cause) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Fatalf("slept %v", took)
		}
		if err := retry.Sleep(ctx, retry.System{}, 0); !errors.Is(err, cause) {
			t.Fatalf("a sleep of nothing hid the end of its context: %v", err)
		}
	})
}

func TestLimiterKeepsTheRateAfterItsBurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := retry.NewLimiter(10, 5, retry.System{})
		begun := time.Now()
		for range 25 {
			if err := l.Wait(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun).Round(time.Millisecond); took != 2*time.Second {
			t.Fatalf("25 events at 10 a second after a burst of 5 took %v", took)
		}
	})
}

func TestLimiterTakesMoreThanItsBurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := retry.NewLimiter(100, 1, retry.System{})
		begun := time.Now()
		if err := l.Wait(t.Context(), 201); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 2*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestNoLimitNeverWaits(t *testing.T) {
	t.Parallel()
	l := retry.NewLimiter(0, 0, retry.System{})
	if err := l.Wait(t.Context(), 1e9); err != nil || l.Burst() != 0 {
		t.Fatalf("error %v, burst %d", err, l.Burst())
	}
}

func TestBreakerOpensThenLetsOneTrialThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := retry.NewBreaker(3, time.Minute, retry.System{})
		for i, want := range []time.Duration{0, 0, time.Minute} {
			if got := b.Failure(); got != want {
				t.Fatalf("failure %d: wait %v, want %v", i+1, got, want)
			}
		}
		time.Sleep(time.Minute) // the clock of the bubble
		if got := b.Remaining(); got != 0 {
			t.Fatalf("still open for %v", got)
		}
		if got := b.Failure(); got != time.Minute {
			t.Fatalf("a failed trial waits %v", got)
		}
		b.Success()
		if got := b.Remaining() + b.Failure(); got != 0 {
			t.Fatalf("closed, and yet waits %v", got)
		}
	})
}

func TestBreakerSaysItsState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := retry.NewBreaker(2, time.Minute, retry.System{})
		is := func(want retry.Circuit, failures int) {
			t.Helper()
			if got, n := b.State(); got != want || n != failures {
				t.Fatalf("%s after %d failures, want %s after %d", got, n, want, failures)
			}
		}
		is(retry.Closed, 0)
		b.Failure()
		is(retry.Closed, 1)
		b.Failure()
		is(retry.Open, 2)
		time.Sleep(time.Minute)
		is(retry.HalfOpen, 2)
		b.Failure()
		is(retry.Open, 3)
		time.Sleep(time.Minute)
		b.Success()
		is(retry.Closed, 0)
	})
	var none *retry.Breaker
	if state, _ := none.State(); state != "" {
		t.Errorf("no breaker is %s", state)
	}
}

func TestLimiterSaysWhileItHoldsEventsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := retry.NewLimiter(0.1, 1, retry.System{})
		if err := l.Wait(t.Context(), 1); err != nil || l.Holds() {
			t.Fatalf("the burst is held back, %v", err)
		}
		waited := make(chan error)
		go func() { waited <- l.Wait(t.Context(), 1) }()
		time.Sleep(9 * time.Second)
		if !l.Holds() {
			t.Fatal("a wait is under way, and it says nothing")
		}
		if err := <-waited; err != nil || !l.Holds() {
			t.Fatalf("%v, and it forgot at once", err)
		}
		time.Sleep(3 * time.Second)
		if l.Holds() {
			t.Fatal("nobody waits any more")
		}
	})
	var none *retry.Limiter
	if none.Holds() || none.PerSecond() != 0 {
		t.Error("no limit holds events back")
	}
}

func TestBreakerWithoutThresholdNeverOpens(t *testing.T) {
	t.Parallel()
	b := retry.NewBreaker(0, time.Minute, retry.System{})
	for range 100 {
		if b.Failure() != 0 || b.Remaining() != 0 {
			t.Fatal("opened")
		}
	}
	b.Success()
}
