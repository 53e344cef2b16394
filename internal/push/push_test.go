package push_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/push"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func numbered(key string, until int) []string {
	var ids []string
	for n := 1; n <= until; n++ {
		ids = append(ids, fmt.Sprintf("%s-%d", key, n))
	}
	return ids
}

func TestMessagesArePostedAsCloudEventsAndCompleted(t *testing.T) {
	t.Parallel()
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for _, major := range []int{pgtest.Oldest, pgtest.Newest} {
		b := newBench(t, major)
		s := startService(t, nil)
		b.deliver(t, 20, "a", "b", "c")
		b.start(t, s, push.Options{}, map[string]any{"signing_secret": secret})
		b.awaitCount(t, "processed_at is not null", 60)
		for _, key := range []string{"a", "b", "c"} {
			equal(t, "key "+key, s.ofKey(key), numbered(key, 20))
		}
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range s.requests() {
			if err := verifier.Verify([]byte(one.body), one.header); err != nil {
				t.Fatalf("the signature of %s: %v", one.id, err)
			}
			for name, want := range map[string]string{"ce-id": one.id, "ce-specversion": "1.0", "ce-source": "/x/orders", "ce-type": "orders.insert",
				"Idempotency-Key": one.id, "Content-Type": "application/json", "traceparent": "00-1-2-3", "Authorization": ""} {
				if got := one.header.Get(name); got != want {
					t.Errorf("header %s is %q, want %q", name, got, want)
				}
			}
		}
		if err := b.stop(patience); err != nil {
			t.Error(err)
		}
		if b.monitor.pushed != 60 || b.monitor.failed != 0 {
			t.Errorf("counted %d pushed, %d failed", b.monitor.pushed, b.monitor.failed)
		}
	}
}

// An event that fails holds back those of its key, and no others, until it is
// taken.
func TestTheOrderOfAKeySurvivesFailures(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	var mu sync.Mutex
	tries := map[string]int{}
	s := startService(t, func(_ *http.Request, one request) int {
		mu.Lock()
		defer mu.Unlock()
		tries[one.id]++
		if strings.HasSuffix(one.id, "-3") && one.key == "a" && tries[one.id] <= 2 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	b.start(t, s, push.Options{}, nil)
	b.deliver(t, 8, "a", "b")
	b.awaitCount(t, "processed_at is not null", 16)
	equal(t, "key a", s.ofKey("a"), numbered("a", 8))
	equal(t, "key b", s.ofKey("b"), numbered("b", 8))
	if tries["a-3"] != 3 {
		t.Errorf("the failing one was tried %d times", tries["a-3"])
	}
	if b.monitor.failed != 2 || b.monitor.dead != 0 {
		t.Errorf("counted %d failed, %d dead", b.monitor.failed, b.monitor.dead)
	}
}

// One event that breaks the service each time becomes a dead letter after the
// attempts of its inbox; other keys never wait, the circuit stays closed, and
// its own key goes on behind it.
func TestAPoisonedMessageHurtsOnlyItsOwnKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	schematest.Exec(t, b.pool, `update tide.inbox set max_attempts = 3 where name = $1`, inbox)
	s := startService(t, func(_ *http.Request, one request) int {
		if one.id == "bad-1" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	b.start(t, s, push.Options{Breaker: pipeline.CircuitBreaker{FailureThreshold: 2, Open: time.Hour}}, nil)
	b.deliver(t, 3, "bad")
	b.awaitCount(t, "dead_at is not null", 1)
	b.awaitCount(t, "processed_at is not null", 2)
	b.deliver(t, 5, "good")
	b.awaitCount(t, "processed_at is not null", 7)
	equal(t, "the poisoned key", s.ofKey("bad"), []string{"bad-2", "bad-3"})
	var attempts int
	var reason string
	schematest.Query(t, b.pool, `select attempts, last_error from tide.payments_inbox where event_id = 'bad-1'`, nil, &attempts, &reason)
	if attempts != 3 || !strings.Contains(reason, "500") {
		t.Errorf("dead after %d attempts: %s", attempts, reason)
	}
	if b.monitor.dead != 1 || !strings.Contains(b.monitor.lastError, "bad-1") {
		t.Errorf("counted %d dead; last error %q", b.monitor.dead, b.monitor.lastError)
	}
}

func TestAMessageThatIsRefusedForGoodIsADeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity} {
		b := newBench(t, 0)
		s := startService(t, func(_ *http.Request, one request) int {
			if one.id == "a-1" {
				return status
			}
			return http.StatusAccepted
		})
		b.start(t, s, push.Options{}, nil)
		b.deliver(t, 2, "a")
		b.awaitCount(t, "dead_at is not null and attempts = 1", 1)
		b.awaitCount(t, "processed_at is not null", 1)
		if n := len(s.requests()); n != 2 {
			t.Errorf("%d: %d requests", status, n)
		}
	}
}

// A service that is away, or says that it is busy, costs no message an attempt.
func TestTroubleOfTheServiceCostsNoAttempts(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusNotFound, http.StatusMovedPermanently} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 0)
			var mended atomic.Bool
			s := startService(t, func(*http.Request, request) int {
				if mended.Load() {
					return http.StatusOK
				}
				return status
			})
			b.start(t, s, push.Options{Waiting: retry.Backoff{Initial: time.Millisecond, Max: 20 * time.Millisecond}}, nil)
			b.deliver(t, 3, "a", "b")
			want := pipeline.StateWaiting
			if status < 429 {
				want = pipeline.StateMisconfigured
			}
			eventually(t, "the trouble shows", func() bool {
				state, reason := b.monitor.now()
				return state == want && strings.Contains(reason, fmt.Sprint(status))
			})
			// more often than a message may be tried
			if status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests { // those say when to come again
				eventually(t, "it was tried again and again", func() bool { return len(s.requests()) > 15 })
			} else {
				eventually(t, "it was tried again", func() bool { return len(s.requests()) > 4 })
			}
			mended.Store(true)
			b.awaitCount(t, "processed_at is not null and attempts = 1", 6)
			equal(t, "key a", s.ofKey("a"), numbered("a", 3))
			if state, reason := b.monitor.now(); state != pipeline.StateRunning || reason != "" {
				t.Errorf("after it was mended: %s %q", state, reason)
			}
		})
	}
}

// Retry-After of a busy service holds everything for as long as it says.
func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	var mu sync.Mutex
	var at []time.Time
	s := startService(t, func(*http.Request, request) int {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		if len(at) == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	b.start(t, s, push.Options{Waiting: retry.Backoff{Initial: time.Millisecond, Max: time.Millisecond}}, map[string]any{"concurrency": 1})
	b.deliver(t, 1, "a", "b")
	b.awaitCount(t, "processed_at is not null", 2)
	mu.Lock()
	defer mu.Unlock()
	if pause := at[1].Sub(at[0]); pause < time.Second {
		t.Errorf("the service asked for a second, and got %s", pause)
	}
}

// The circuit opens after failures of different messages, says so, lets one
// request through at a time, and closes with the first that is taken.
func TestTheCircuitOpensAndCloses(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	var mended atomic.Bool
	var out, most atomic.Int32
	s := startService(t, func(*http.Request, request) int {
		now := out.Add(1)
		defer out.Add(-1)
		if mended.Load() {
			return http.StatusOK
		}
		if len(b.monitor.opened()) > 0 {
			most.Store(max(most.Load(), now))
		}
		return http.StatusInternalServerError
	})
	b.start(t, s, push.Options{Breaker: pipeline.CircuitBreaker{FailureThreshold: 3, Open: 50 * time.Millisecond}}, nil)
	b.deliver(t, 2, "a", "b", "c", "d", "e")
	eventually(t, "the circuit is open", func() bool { return len(b.monitor.opened()) > 0 })
	before := len(s.requests())
	eventually(t, "trials are made", func() bool { return len(s.requests()) >= before+5 })
	if most.Load() > 1 {
		t.Errorf("%d trials at once", most.Load())
	}
	if n := b.count(t, "dead_at is not null"); n > 0 {
		t.Errorf("%d dead letters behind an open circuit", n)
	}
	mended.Store(true)
	b.awaitCount(t, "processed_at is not null", 10)
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		equal(t, "key "+key, s.ofKey(key), numbered(key, 2))
	}
	if state, _ := b.monitor.now(); state != pipeline.StateRunning {
		t.Errorf("after it closed the state is %s", state)
	}
}

// opened are the reasons that spoke of an open circuit.
func (m *monitor) opened() (reasons []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, reason := range m.reasons {
		if strings.Contains(reason, "circuit open until") {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// A request that takes longer than the lease keeps its message: the lease is
// extended, and nobody else gets it.
func TestALeaseIsExtendedWhileASlowRequestRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	answer := make(chan struct{})
	s := startService(t, func(*http.Request, request) int {
		<-answer
		return http.StatusOK
	})
	const lease = time.Second
	b.start(t, s, push.Options{Lease: lease}, map[string]any{"timeout_seconds": 60})
	b.deliver(t, 1, "a")
	var first, later time.Time
	const until = `select coalesce(max(next_attempt_at), 'epoch') from tide.payments_inbox where lease_token is not null`
	eventually(t, "it is leased", func() bool {
		schematest.Query(t, b.pool, until, nil, &first)
		return first.Year() > 2000
	})
	eventually(t, "the lease was extended beyond its first end", func() bool {
		schematest.Query(t, b.pool, until, nil, &later)
		return later.After(first.Add(lease))
	})
	close(answer)
	b.awaitCount(t, "processed_at is not null and attempts = 1", 1)
	if n := len(s.requests()); n != 1 {
		t.Errorf("posted %d times", n)
	}
}

func TestASlowServiceIsCutOffAndAskedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	var asked atomic.Int32
	release := make(chan struct{})
	s := startService(t, func(r *http.Request, _ request) int {
		if asked.Add(1) == 1 {
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}
		return http.StatusOK
	})
	defer close(release)
	b.start(t, s, push.Options{}, map[string]any{"timeout_seconds": 0.2})
	b.deliver(t, 1, "a")
	b.awaitCount(t, "processed_at is not null and attempts = 2", 1)
	if requests := s.requests(); requests[0].id != requests[1].id {
		t.Errorf("the second attempt has the id %s", requests[1].id)
	}
}

// A stop lets a request finish, takes nothing new, and gives back at once what
// it had to cut off; that attempt does not count.
func TestAStopFinishesOrGivesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	entered, answer := make(chan string, 10), make(chan struct{})
	s := startService(t, func(r *http.Request, one request) int {
		entered <- one.id
		if one.key == "slow" {
			<-r.Context().Done()
			return http.StatusOK
		}
		<-answer
		return http.StatusOK
	})
	b.deliver(t, 2, "slow", "quick")
	b.start(t, s, push.Options{}, map[string]any{"timeout_seconds": 60})
	<-entered
	<-entered
	b.task.Drain()
	close(answer)
	b.awaitCount(t, "processed_at is not null", 1)
	b.task.Cancel(fmt.Errorf("no more time"))
	if err := b.task.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := b.count(t, "lease_token is not null"); n != 0 {
		t.Errorf("%d messages are still leased", n)
	}
	if n := b.count(t, "processed_at is null and attempts = 0"); n != 3 {
		t.Errorf("%d messages wait as if nothing had been, want 3", n)
	}
}

// A relay that may not act any more sends nothing, even of what it has claimed.
func TestNothingIsSentWithoutOwnership(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	s := startService(t, nil)
	b.monitor.owns = fmt.Errorf("not ours")
	b.start(t, s, push.Options{}, nil)
	b.deliver(t, 1, "a")
	eventually(t, "it says so", func() bool {
		_, reason := b.monitor.now()
		return strings.Contains(reason, "not ours")
	})
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// Two pushes of one inbox, as while an old owner drains, give each key's
// messages once each, in order.
func TestTwoPushesKeepTheOrderOfKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	s := startService(t, nil)
	keys := []string{"a", "b", "c", "d", "e", "f"}
	b.deliver(t, 20, keys...)
	b.start(t, s, push.Options{}, nil)
	b.start(t, s, push.Options{}, nil)
	b.awaitCount(t, "processed_at is not null", 120)
	for _, key := range keys {
		equal(t, "key "+key, s.ofKey(key), numbered(key, 20))
	}
}
