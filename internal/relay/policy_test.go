package relay

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

func isOneOf(some ...string) func(id string) bool {
	return func(id string) bool { return slices.Contains(some, id) }
}

func TestRefusedEventIsTriedThenDeadLetteredAndOthersFlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(50, "a", "b")
		f := newFlow(all)
		tries := 0
		f.sink.outcome = refuse(func(id string) bool {
			if id == "e17" {
				tries++
			}
			return id == "e17"
		})
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == 50 })
		equal(t, "delivered", firsts(f.sink.all()), without(ids(all), "e17"))
		equal(t, "dead", f.letters.ids(), []string{"e17"})
		if l := f.letters.letters[0]; l.Attempts != 3 || tries != 3 || l.Error != "too bad" {
			t.Fatalf("%d tries, letter %+v", tries, l)
		}
		await(t, "running", func() bool {
			r := f.registry.report(1)
			return r.State == pipeline.StateRunning && r.Failed == 1 && r.Delivered == 49
		})
	})
}

func TestRefusedEventThatPassesLaterKeepsItsPlaceBeforeWhatFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(30)
		f := newFlow(all)
		f.limits.BatchSize, f.limits.MaxAttempts, f.options.Window = 1, 5, 1
		tries := 0
		f.sink.outcome = refuse(func(id string) bool {
			if id == "e9" {
				tries++
			}
			return id == "e9" && tries < 4
		})
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == 30 })
		equal(t, "delivered", firsts(f.sink.all()), ids(all))
		if tries != 4 || len(f.letters.ids()) != 0 {
			t.Fatalf("%d tries, dead %v", tries, f.letters.ids())
		}
	})
}

func TestEventThatCannotBeEncodedIsDeadLetteredWholeAndTheRestFlows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(25)
		all[11].Payload = []byte("bad")
		f := newFlow(all)
		f.changes = []Change{changeFunc(func(m *message.Message) (bool, error) {
			m.Destination = "changed"
			if m.EventID == "e3" {
				return false, errors.New("no such field")
			}
			return true, nil
		})}
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == 25 })
		equal(t, "delivered", f.sink.all(), without(ids(all), "e3", "e12"))
		equal(t, "dead", f.letters.ids(), []string{"e3", "e12"})
		if l := f.letters.letters[1]; string(l.Message.Payload) != "bad" || l.Message.Destination != "" || l.Attempts != 1 {
			t.Fatalf("the letter does not hold the original: %+v", l)
		}
	})
}

func TestWhatTheSinkRefusesBeforeSendingIsTakenOut(t *testing.T) {
	t.Parallel()
	for _, policy := range []pipeline.Policy{pipeline.DeadLetter, pipeline.ParkKey} {
		synctest.Test(t, func(t *testing.T) {
			all := events(12, "a", "b", "c")
			f := newFlow(all)
			f.limits.OnError = policy
			f.sink.sendFails = func(ids []string) error {
				if i := slices.Index(ids, "e5"); i >= 0 {
					return &delivery.Partial{Failed: map[int]error{i: delivery.Reject(errors.New("too large"))}}
				}
				return nil
			}
			_, stop := f.start(t)
			defer stop()
			await(t, "the last position", func() bool { return f.outbox.position() == 12 })
			dead := []string{"e5"}
			if policy == pipeline.ParkKey {
				dead = []string{"e5", "e8", "e11"}
			}
			equal(t, "dead", f.letters.ids(), dead)
			equal(t, "delivered", f.sink.all(), without(ids(all), dead...))
		})
	}
}

func TestBlockHoldsThePipelineAtTheEventAndNamesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(40, "a", "b")
		f := newFlow(all)
		f.limits.OnError, f.limits.MaxAttempts = pipeline.Block, 2
		bad := true
		f.sink.outcome = refuse(func(id string) bool { return bad && id == "e28" })
		_, stop := f.start(t)
		defer stop()
		await(t, "blocked", func() bool { return f.registry.report(1).State == pipeline.StateBlocked })
		reason := f.registry.report(1).Reason
		for _, part := range []string{"e28", `"b"`, "too bad"} {
			if !strings.Contains(reason, part) {
				t.Fatalf("reason %q does not name %s", reason, part)
			}
		}
		<-time.After(5 * time.Minute)
		synctest.Wait()
		if f.outbox.position() != 20 {
			t.Fatalf("held at %d, want the page before the event", f.outbox.position())
		}
		if got := f.registry.report(1).State; got != pipeline.StateBlocked {
			t.Fatalf("state %s", got)
		}
		before := len(f.sink.all())
		<-time.After(5 * time.Minute)
		synctest.Wait()
		if again := len(f.sink.all()) - before; again != 0 {
			t.Fatalf("%d events were sent again while it was blocked", again)
		}
		f.sink.mu.Lock()
		bad = false
		f.sink.mu.Unlock()
		await(t, "the last position", func() bool { return f.outbox.position() == 40 })
		await(t, "running", func() bool { return f.registry.report(1).State == pipeline.StateRunning })
		if len(f.letters.ids()) != 0 {
			t.Fatal("blocked, and dead-lettered")
		}
	})
}

func TestBlockedByACodecSendsWhatStandsBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(20)
		all[7].Payload = []byte("bad")
		f := newFlow(all)
		f.limits.OnError = pipeline.Block
		_, stop := f.start(t)
		defer stop()
		await(t, "blocked", func() bool { return f.registry.report(1).State == pipeline.StateBlocked })
		synctest.Wait()
		equal(t, "delivered", firsts(f.sink.all()), ids(all[:7]))
	})
}

func TestParkKeyHoldsTheKeyUntilItsLettersAreGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(20, "a", "b"))
		f.limits.OnError, f.options.Window = pipeline.ParkKey, 1
		bad := true
		f.sink.outcome = refuse(func(id string) bool { return bad && id == "e5" })
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == 20 })
		// e7 and e9 were on their way when e5 was refused
		dead := []string{"e5", "e11", "e13", "e15", "e17", "e19"}
		equal(t, "dead", f.letters.ids(), dead)
		equal(t, "delivered", f.sink.all(), without(ids(f.outbox.all), dead...))
		f.sink.mu.Lock()
		bad = false
		from := len(f.sink.stored)
		f.sink.mu.Unlock()
		f.letters.retryAll()
		signal(f.registry.changed)
		await(t, "no letters", func() bool { return len(f.letters.ids()) == 0 })
		f.outbox.publish(message.Message{EventID: "e21", Key: "a"})
		await(t, "the last position", func() bool { return f.outbox.position() == 21 })
		equal(t, "after the retry", f.sink.all()[from:], append(dead, "e21"))
	})
}

func TestLetterThatFailsAgainGoesBackWithTheNewError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(nil)
		f.sink.outcome = refuse(isOneOf("x"))
		_ = f.letters.Add(t.Context(), []message.DeadLetter{{Message: message.Message{EventID: "x"}, Error: "old"}})
		f.letters.retryAll()
		_, stop := f.start(t)
		defer stop()
		await(t, "the new error", func() bool {
			f.letters.mu.Lock()
			defer f.letters.mu.Unlock()
			return f.letters.letters[0].Error == "too bad" && len(f.letters.due) == 0
		})
	})
}

func TestRateLimitIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(100))
		f.limits.RateLimit = pipeline.RateLimit{PerSecond: 10, Burst: 10}
		begun := time.Now()
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == 100 })
		if took := time.Since(begun); took < 9*time.Second || took > 10*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestOpenCircuitPausesAndDeadLettersNothing(t *testing.T) {
	t.Parallel()
	partial := func(ids []string) error { // some events of each batch get no answer
		return &delivery.Partial{Failed: map[int]error{len(ids) - 1: errAway}}
	}
	for _, policy := range []pipeline.Policy{pipeline.Block, pipeline.ParkKey, pipeline.DeadLetter} {
		for how, fails := range map[string]func(ids []string) error{"away": func([]string) error { return errAway }, "partly": partial} {
			synctest.Test(t, func(t *testing.T) {
				f := newFlow(events(5))
				f.limits.OnError, f.limits.MaxAttempts = policy, 1
				f.limits.CircuitBreaker = pipeline.CircuitBreaker{FailureThreshold: 3, Open: time.Minute}
				sends := 0
				f.sink.sendFails = func(ids []string) error {
					sends++
					if sends <= 5 {
						return fails(ids)
					}
					return nil
				}
				_, stop := f.start(t)
				defer stop()
				await(t, "an open circuit", func() bool { return f.registry.report(1).Circuit == "open" })
				begun := time.Now()
				await(t, "the reason", func() bool {
					r := f.registry.report(1)
					return r.State == pipeline.StateWaiting && strings.HasPrefix(r.Reason, "circuit open until "+clockTime(begun.Add(time.Minute))[:16]) &&
						strings.Contains(r.Reason, "because the broker failed 3 times in a row since ") && strings.Contains(r.Reason, errAway.Error())
				})
				if got := f.outbox.position(); got != 0 || len(f.letters.ids()) != 0 {
					t.Fatalf("%s, %s: while it is open: position %d, dead %v", policy, how, got, f.letters.ids())
				}
				await(t, "delivery", func() bool { return f.outbox.position() == 5 })
				if took := time.Since(begun); took < 2*time.Minute || len(f.letters.ids()) != 0 {
					t.Fatalf("%s, %s: took %v, dead %v", policy, how, took, f.letters.ids())
				}
				await(t, "a closed circuit", func() bool {
					r := f.registry.report(1)
					return r.Circuit == "closed" && r.State == pipeline.StateRunning && r.Reason == ""
				})
			})
		}
	}
}

// TestTheTrialOfAHalfOpenCircuitIsSaid: between two pauses the reason is
// neither that of an open circuit nor none.
func TestTheTrialOfAHalfOpenCircuitIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(1))
		f.limits.CircuitBreaker = pipeline.CircuitBreaker{FailureThreshold: 1, Open: time.Minute}
		trial := make(chan struct{})
		sends := 0
		f.sink.sendFails = func([]string) error {
			if sends++; sends == 1 {
				return errAway
			}
			<-trial
			return nil
		}
		_, stop := f.start(t)
		defer stop()
		await(t, "the trial", func() bool {
			r := f.registry.report(1)
			return r.Circuit == "half_open" && r.State == pipeline.StateWaiting && strings.HasPrefix(r.Reason, "circuit half open: ") &&
				strings.Contains(r.Reason, "failed once in a row") && strings.Contains(r.Reason, errAway.Error())
		})
		close(trial)
		await(t, "a closed circuit", func() bool { r := f.registry.report(1); return r.Circuit == "closed" && r.Reason == "" })
	})
}

func TestARateLimitThatHoldsEventsBackIsTheReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(100))
		f.limits.RateLimit = pipeline.RateLimit{PerSecond: 12.5, Burst: 10}
		_, stop := f.start(t)
		defer stop()
		await(t, "the reason", func() bool {
			r := f.registry.report(1)
			return r.State == pipeline.StateRunning && r.Reason == "rate limited to 12.5/s" && r.Circuit == ""
		})
		await(t, "the last position", func() bool { return f.outbox.position() == 100 })
		await(t, "no reason any more", func() bool { return f.registry.report(1).Reason == "" })
	})
}

func TestARateLimitThatIsNotReachedIsNoReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(100))
		f.limits.RateLimit = pipeline.RateLimit{PerSecond: 1000, Burst: 1000}
		_, stop := f.start(t)
		defer stop()
		await(t, "the report", func() bool {
			r := f.registry.report(1)
			if r.Reason != "" {
				t.Fatalf("reason %q", r.Reason)
			}
			return r.Delivered == 100
		})
	})
}
