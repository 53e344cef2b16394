package relay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// wayBack is a reverse pipeline of fakes.
type wayBack struct {
	source   *fakeSource
	inbox    *fakeInbox
	letters  *fakeLetters
	registry *fakeRegistry
	limits   pipeline.Limits
	changes  []Change
	options  Options
}

func newWayBack(all []message.Message) *wayBack {
	return &wayBack{
		source: newSource(all), inbox: newInbox(), letters: newLetters(),
		registry: newRegistry(pipeline.Spec{ID: 1, Name: "r", Direction: pipeline.Reverse, Version: 1, Fence: 1}),
		limits:   pipeline.Limits{BatchSize: 10, OnError: pipeline.DeadLetter},
	}
}

func (w *wayBack) start(t testing.TB) (*Supervisor, func()) {
	return start(t, w.registry, func(spec pipeline.Spec) (Plan, error) {
		return Plan{Spec: spec, Limits: w.limits, Codec: fakeCodec{}, Changes: w.changes, DeadLetters: w.letters,
			Source: w.source, Inbox: w.inbox}, nil
	}, w.options)
}

// never makes an inbox unable to take some events.
func never(some ...string) func(ids []string) error {
	return func(ids []string) error {
		failed := map[int]error{}
		for i, id := range ids {
			if slices.Contains(some, id) {
				failed[i] = delivery.Reject(errors.New(`\u0000 cannot be stored`))
			}
		}
		if len(failed) == 0 {
			return nil
		}
		return &delivery.Partial{Failed: failed}
	}
}

func TestInsertsInOrderAndAcknowledges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(95)
		w := newWayBack(all)
		_, stop := w.start(t)
		defer stop()
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 95 })
		equal(t, "inserted", w.inbox.all(), ids(all))
		await(t, "the report", func() bool { return w.registry.report(1).Delivered == 95 })
	})
}

// The inbox hangs: what the source has left is reported with the heartbeats, and
// no more often than those.
func TestReportsWhatTheSourceHasLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWayBack(events(95))
		release := make(chan struct{})
		w.inbox.hangs = func([]string) { <-release }
		s, stop := w.start(t)
		defer stop()
		await(t, "the report", func() bool { r := w.registry.report(1); return r.LagKnown && r.Lag == 95 })
		w.source.add(events(100)[95:])
		await(t, "a larger lag", func() bool { return w.registry.report(1).Lag == 100 })
		w.source.quiet(true)
		if r := s.Pipelines()[0].Report; !r.LagKnown || r.Lag != 100 {
			t.Errorf("a source that does not know made the lag %d, known: %t", r.Lag, r.LagKnown)
		}
		w.source.quiet(false)
		close(release)
		await(t, "the end", func() bool { return w.source.acknowledged() == 100 })
		await(t, "its report", func() bool { r := w.registry.report(1); return r.LagKnown && r.Lag == 0 })
		before := w.registry.reported()
		time.Sleep(time.Hour)                           // the clock of the bubble
		if n := w.registry.reported() - before; n > 5 { // the rate falls to 0 in the first seconds
			t.Errorf("an idle pipeline was reported %d times in an hour", n)
		}
	})
}

// splittingCodec takes "a+b" for two events.
type splittingCodec struct{ fakeCodec }

func (splittingCodec) Split(e *message.Envelope) ([]message.Envelope, bool) {
	if !strings.Contains(string(e.Body), "+") {
		return nil, false
	}
	var parts []message.Envelope
	for i, body := range strings.Split(string(e.Body), "+") {
		if body != "" {
			parts = append(parts, message.Envelope{EventID: fmt.Sprintf("%s.%d", e.EventID, i), Body: []byte(body), Coordinates: fmt.Sprintf("%s#%d", e.Coordinates, i)})
		}
	}
	return parts, true
}

// TestEventsOfOneEnvelopeArriveEachByItself: the poison among them is set
// aside alone, and the envelope is acknowledged once all are dealt with.
func TestEventsOfOneEnvelopeArriveEachByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(5)
		all[0].Payload = []byte("+") // a batch of none
		all[2].Payload = []byte("one+bad+three")
		all[4].Payload = []byte("one+two")
		w := newWayBack(all)
		w.source.checks = func(upTo int) {
			if got := len(w.inbox.all()) + len(w.letters.ids()); upTo == 5 && got != 7 {
				t.Errorf("acknowledged with %d events dealt with", got)
			}
		}
		_, stop := start(t, w.registry, func(spec pipeline.Spec) (Plan, error) {
			return Plan{Spec: spec, Limits: w.limits, Codec: splittingCodec{}, DeadLetters: w.letters, Source: w.source, Inbox: w.inbox}, nil
		}, w.options)
		defer stop()
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 5 })
		equal(t, "inserted", w.inbox.all(), []string{"e2", "e3.0", "e3.2", "e4", "e5.0", "e5.1"})
		equal(t, "dead", w.letters.ids(), []string{"e3.1"})
		if l := w.letters.letters[0]; string(l.Body) != "bad" || l.Coordinates != "fake:3#1" {
			t.Errorf("letter %+v", l)
		}
	})
}

func TestEveryEventOfAnEnvelopeCountsForTheRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(2)
		all[0].Payload = []byte(strings.Repeat("x+", 30))
		w := newWayBack(all)
		w.limits.RateLimit = pipeline.RateLimit{PerSecond: 10, Burst: 1}
		begun := time.Now()
		_, stop := start(t, w.registry, func(spec pipeline.Spec) (Plan, error) {
			return Plan{Spec: spec, Limits: w.limits, Codec: splittingCodec{}, DeadLetters: w.letters, Source: w.source, Inbox: w.inbox}, nil
		}, w.options)
		defer stop()
		await(t, "the reason", func() bool { return w.registry.report(1).Reason == "rate limited to 10/s" })
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 2 })
		if took := time.Since(begun); took < 3*time.Second || len(w.inbox.all()) != 31 {
			t.Errorf("%d events took %v", len(w.inbox.all()), took)
		}
	})
}

func TestPoisonOnTheWayBackIsKeptWholeAndTheRestArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(30)
		all[4].Payload = []byte("bad bytes")
		w := newWayBack(all)
		w.inbox.fails = never("e8", "e22")
		_, stop := w.start(t)
		defer stop()
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 30 })
		equal(t, "inserted", w.inbox.all(), without(ids(all), "e5", "e8", "e22"))
		equal(t, "dead", w.letters.ids(), []string{"e5", "e8", "e22"})
		l := w.letters.letters[0]
		if string(l.Body) != "bad bytes" || l.Coordinates != "fake:5" || len(l.TransportHeaders) != 1 || l.Error != "not JSON" {
			t.Fatalf("letter %+v", l)
		}
	})
}

func TestFilteredOnTheWayBackIsAcknowledgedAndNotInserted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWayBack(events(40))
		w.changes = []Change{changeFunc(func(m *message.Message) (bool, error) { return m.EventID == "e7", nil })}
		_, stop := w.start(t)
		defer stop()
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 40 })
		equal(t, "inserted", w.inbox.all(), []string{"e7"})
		await(t, "the report", func() bool { return w.registry.report(1).Filtered == 39 })
	})
}

func TestBlockOnTheWayBackInsertsWhatStandsBeforeAndAcknowledgesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"codec", "inbox"} {
		synctest.Test(t, func(t *testing.T) {
			all := events(30)
			w := newWayBack(all)
			w.limits.OnError = pipeline.Block
			if where == "codec" {
				w.source.all[14].Body = []byte("bad")
			} else {
				w.inbox.fails = never("e15")
			}
			_, stop := w.start(t)
			defer stop()
			await(t, "blocked", func() bool { return w.registry.report(1).State == pipeline.StateBlocked })
			<-time.After(time.Minute)
			synctest.Wait()
			equal(t, "inserted", w.inbox.all(), ids(all[:14]))
			if w.source.acknowledged() != 10 || len(w.letters.ids()) != 0 {
				t.Fatalf("acknowledged %d, dead %v", w.source.acknowledged(), w.letters.ids())
			}
			if r := w.registry.report(1).Reason; !strings.Contains(r, "e15") {
				t.Fatalf("reason %q", r)
			}
		})
	}
}

func TestParkKeyOnTheWayBackHoldsTheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(20, "a", "b")
		w := newWayBack(all)
		w.limits.OnError = pipeline.ParkKey
		w.inbox.fails = never("e5")
		_, stop := w.start(t)
		defer stop()
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 20 })
		dead := []string{"e5", "e7", "e9", "e11", "e13", "e15", "e17", "e19"}
		equal(t, "dead", w.letters.ids(), dead)
		equal(t, "inserted", w.inbox.all(), without(ids(all), dead...))
		w.inbox.mu.Lock()
		w.inbox.fails = nil
		w.inbox.mu.Unlock()
		w.letters.retryAll()
		signal(w.registry.changed)
		await(t, "no letters", func() bool { return len(w.letters.ids()) == 0 })
		equal(t, "inserted at last", w.inbox.all()[12:], dead)
	})
}

func TestNothingIsAcknowledgedBeforeItIsDurable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 120).Draw(rt, "events")
		budget := rapid.IntRange(0, 20).Draw(rt, "failures")
		dice := rapid.SliceOfN(rapid.IntRange(0, 3), 32, 32).Draw(rt, "dice")
		poison := rapid.SliceOfN(rapid.IntRange(1, n), 0, 4).Draw(rt, "poison")
		batch := rapid.IntRange(1, 17).Draw(rt, "batch")
		lanes := rapid.SampledFrom([]int{1, 2, 5}).Draw(rt, "lanes")
		slow := rapid.SliceOfN(rapid.IntRange(0, 3), 16, 16).Draw(rt, "slow")
		failure := ""
		synctest.Test(t, func(t *testing.T) {
			all := events(n, "a", "b", "", "c")
			w := newWayBack(all)
			w.limits.BatchSize, w.limits.Lanes = batch, lanes
			w.inbox.slow = slow
			luck := &chance{budget: budget, dice: dice}
			var bad []string
			for _, i := range poison {
				bad = append(bad, fmt.Sprintf("e%d", i))
			}
			w.inbox.fails = func(ids []string) error {
				if luck.fails() {
					return errAway
				}
				return never(bad...)(ids)
			}
			w.source.ackFail = func() error {
				if luck.fails() {
					return errAway
				}
				return nil
			}
			w.source.checks = func(upTo int) {
				stored := append(w.inbox.all(), w.letters.ids()...)
				for _, m := range all[:upTo] {
					if !slices.Contains(stored, m.EventID) {
						failure = fmt.Sprintf("acknowledged up to %d before %s was durable", upTo, m.EventID)
					}
				}
			}
			_, stop := w.start(t)
			defer stop()
			for i := 0; w.source.acknowledged() < n && i < 60_000; i++ {
				<-time.After(10 * time.Millisecond)
			}
			if got := w.source.acknowledged(); got < n {
				failure = fmt.Sprintf("stuck at %d of %d: %+v", got, n, w.registry.report(1))
			}
			for _, key := range []string{"a", "b", "", "c"} {
				if got := ofKey(key, w.inbox.all(), all); !slices.Equal(got, ofKey(key, without(ids(all), bad...), all)) {
					failure = fmt.Sprintf("inserted of key %q: %v", key, got)
				}
			}
			if lanes == 1 && !slices.Equal(w.inbox.all(), without(ids(all), bad...)) {
				failure = fmt.Sprintf("inserted by one lane: %v", w.inbox.all())
			}
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

func TestALaneOfTheWayBackThatHangsDelaysNoOtherAndNothingBehindIsAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(20, "a", "b", "c", "d", "")
		w := newWayBack(all)
		w.limits.Lanes = 4
		stuck, release := laneOf("a", 4), make(chan struct{})
		w.inbox.hangs = func(ids []string) {
			if slices.Contains(ids, "e11") { // of key a, in the second delivery
				<-release
			}
		}
		_, stop := w.start(t)
		defer stop()
		synctest.Wait()
		for _, m := range all {
			if laneOf(m.Key, 4) != stuck && !slices.Contains(w.inbox.all(), m.EventID) {
				t.Fatalf("%s of key %s waits for key a", m.EventID, m.Key)
			}
		}
		if got := w.source.acknowledged(); got != 10 && got != 0 { // its lane may have taken both deliveries at once
			t.Fatalf("acknowledged %d, and e11 was not inserted", got)
		}
		close(release)
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 20 })
		for _, key := range []string{"a", "b", "c", "d", ""} {
			equal(t, "key "+key, ofKey(key, w.inbox.all(), all), ofKey(key, ids(all), all))
		}
	})
}

func TestTheWayBackWaitsForRoomForDeadLettersAndAcknowledgesNothingMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(40, "a", "b")
		w := newWayBack(all)
		w.limits.OnError, w.limits.MaxDeadLetters = pipeline.ParkKey, 3
		w.inbox.fails = never("e13")
		_, stop := w.start(t)
		defer stop()
		await(t, "blocked", func() bool { return w.registry.report(1).State == pipeline.StateBlocked })
		<-time.After(time.Minute)
		if r := w.registry.report(1).Reason; !strings.Contains(r, "max_dead_letters is 3") || !strings.Contains(r, "event e19") {
			t.Fatalf("reason %q", r)
		}
		equal(t, "dead", w.letters.ids(), []string{"e13", "e15", "e17"})
		if w.source.acknowledged() != 10 {
			t.Fatalf("acknowledged %d", w.source.acknowledged())
		}
		w.letters.discard("e13")
		signal(w.registry.changed)
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 40 && len(w.letters.ids()) == 0 })
		equal(t, "key a", ofKey("a", w.inbox.all(), all), without(ofKey("a", ids(all), all), "e13"))
		await(t, "running", func() bool { return w.registry.report(1).State == pipeline.StateRunning })
	})
}
