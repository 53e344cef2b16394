package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// wide is a forward pipeline of fakes with lanes.
type wide struct {
	*flow
	broker *fakeBroker
}

func newWide(lanes int, all []message.Message) *wide {
	w := &wide{flow: newFlow(all), broker: newBroker()}
	w.limits.OnError, w.limits.Lanes = pipeline.ParkKey, lanes
	return w
}

func (w *wide) start(t testing.TB) (*Supervisor, func()) {
	return start(t, w.registry, func(spec pipeline.Spec) (Plan, error) {
		w.broker.mu.Lock()
		defer w.broker.mu.Unlock()
		plan := Plan{Spec: spec, Limits: w.limits, Codec: fakeCodec{}, Changes: w.changes, DeadLetters: w.letters, Reader: w.outbox}
		plan.Sink, plan.LaneSinks = w.broker.sinks(w.limits.Lanes)
		return plan, nil
	}, w.options)
}

// ofKey returns the ids that belong to events of a key, in the order given.
func ofKey(key string, ids []string, all []message.Message) (of []string) {
	for _, id := range ids {
		if at := slices.IndexFunc(all, func(m message.Message) bool { return m.EventID == id }); all[at].Key == key {
			of = append(of, id)
		}
	}
	return of
}

func (w *wide) set(change func()) {
	w.broker.mu.Lock()
	defer w.broker.mu.Unlock()
	change()
}

func TestEachKeyKeepsItsOrderInItsLaneAndKeylessEventsAmongThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(2000, "a", "b", "c", "", "d", "e", "f", "g", "")
		w := newWide(4, all)
		roll := 0
		w.broker.dice = func() int { roll++; return roll % 4 }
		_, stop := w.start(t)
		defer stop()
		await(t, "the last position", func() bool { return w.outbox.position() == 2000 })
		stored := w.broker.all()
		for _, key := range []string{"", "a", "b", "c", "d", "e", "f", "g"} {
			equal(t, "events of key "+key, ofKey(key, stored, all), ofKey(key, ids(all), all))
		}
		if slices.Equal(stored, ids(all)) {
			t.Fatal("nothing ran in parallel")
		}
	})
}

func TestALaneThatHangsDelaysNoOtherAndNoPositionPassesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(300, "a", "b", "c", "d")
		w := newWide(4, all)
		w.limits.BatchSize = 100
		stuck := laneOf("a", 4)
		w.broker.hangs = func(id string) bool { return id == "e105" } // of key a, in the second page
		_, stop := w.start(t)
		defer stop()
		synctest.Wait()
		stored := w.broker.all()
		for _, m := range all {
			if laneOf(m.Key, 4) != stuck && !slices.Contains(stored, m.EventID) {
				t.Fatalf("%s of key %s waits for key a", m.EventID, m.Key)
			}
		}
		if w.outbox.position() != 100 {
			t.Fatalf("position %d, and e105 was not acknowledged", w.outbox.position())
		}
	})
}

func TestARefusedEventHoldsUpItsOwnKeyAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// both keys in one lane
		other := "b"
		for laneOf(other, 2) != laneOf("a", 2) {
			other += "b"
		}
		all := events(200, "a", other)
		w := newWide(2, all)
		w.limits.MaxAttempts, w.options.Window = 8, 12
		bad := true
		w.broker.refuses = func(id string) bool { return bad && id == "e1" }
		_, stop := w.start(t)
		defer stop()
		synctest.Wait() // at the first pause between attempts
		equal(t, "the other key", ofKey(other, w.broker.all(), all), ofKey(other, ids(all), all))
		if r := w.registry.report(1); !strings.Contains(r.Reason, "e1 was refused and is tried again") {
			await(t, "the reason", func() bool { return strings.Contains(w.registry.report(1).Reason, "e1 was refused") })
		}
		w.set(func() { bad = false })
		await(t, "the last position", func() bool { return w.outbox.position() == 200 })
		// what was on its way at the refusal came first; the rest behind it
		later := ofKey("a", w.broker.all(), all)
		at := slices.Index(later, "e1")
		equal(t, "key a", slices.Concat([]string{"e1"}, later[:at], later[at+1:]), ofKey("a", ids(all), all))
		if w.broker.opened != 2 || len(w.letters.ids()) != 0 {
			t.Fatalf("%d connections, dead %v", w.broker.opened, w.letters.ids())
		}
		await(t, "running", func() bool { return w.registry.report(1).State == pipeline.StateRunning })
	})
}

func TestParkedEventsFollowByThemselvesAndInOrder(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"retried", "discarded"} {
		for _, lanes := range []int{1, 3} {
			synctest.Test(t, func(t *testing.T) {
				all := events(400, "a", "b", "", "c")
				w := newWide(lanes, all)
				bad := true
				w.broker.takes = func(id string) bool { return !bad || id != "e9" }
				_, stop := w.start(t)
				defer stop()
				await(t, "the last position", func() bool { return w.outbox.position() == 400 })
				parked := ofKey("a", ids(all), all)[2:]
				equal(t, "dead", w.letters.ids(), parked)
				for _, key := range []string{"b", "", "c"} {
					equal(t, "stored", ofKey(key, w.broker.all(), all), ofKey(key, ids(all), all))
				}
				if way == "retried" {
					w.set(func() { bad = false })
					w.letters.retry("e9")
				} else {
					w.letters.discard("e9")
					parked = parked[1:]
				}
				signal(w.registry.changed)
				await(t, "no letters", func() bool { return len(w.letters.ids()) == 0 })
				w.outbox.publish(message.Message{EventID: "last", Key: "a"})
				await(t, "the last event", func() bool { return w.outbox.position() == 401 })
				stored := w.broker.all()
				equal(t, way, stored[len(stored)-len(parked)-1:], append(parked, "last"))
			})
		}
	}
}

func TestARetriedEventThatFailsAgainKeepsItsKeyParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(40, "a", "b")
		w := newWide(2, all)
		w.broker.takes = func(id string) bool { return id != "e3" }
		_, stop := w.start(t)
		defer stop()
		await(t, "the last position", func() bool { return w.outbox.position() == 40 })
		parked := ofKey("a", ids(all), all)[1:]
		equal(t, "dead", w.letters.ids(), parked)
		w.letters.retryAll()
		signal(w.registry.changed)
		await(t, "one more attempt", func() bool {
			w.letters.mu.Lock()
			defer w.letters.mu.Unlock()
			return w.letters.letters[0].Attempts == 2
		})
		<-time.After(time.Minute)
		equal(t, "dead still", w.letters.ids(), parked)
		for _, l := range w.letters.letters[1:] {
			if l.Attempts != 0 || l.Error != parked0("a") {
				t.Fatalf("parked letter %+v", l)
			}
		}
	})
}

func TestAnEventThatComesWhileItsKeyIsSetFreeIsNotForgotten(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			all := events(20, "a", "b")
			w := newWide(lanes, all)
			bad := true
			w.broker.takes = func(id string) bool { return !bad || id != "e1" }
			_, stop := w.start(t)
			defer stop()
			await(t, "the last position", func() bool { return w.outbox.position() == 20 })
			w.set(func() { bad = false })
			w.letters.mu.Lock()
			w.letters.holding = func() { // e1 is gone, and the lane does not know
				w.outbox.publish(message.Message{EventID: "between", Key: "a", OutboxID: 21})
				<-time.After(time.Second)
			}
			w.letters.letters = nil
			w.letters.mu.Unlock()
			signal(w.registry.changed)
			await(t, "the event", func() bool { return w.outbox.position() == 21 })
			stored := w.broker.all()
			if dead := w.letters.ids(); stored[len(stored)-1] != "between" || len(dead) > 0 || w.letters.most > 10 {
				t.Fatalf("stored %v, dead %v", stored, dead)
			}
		})
	}
}

func TestEventsBeforeTheOneThatHoldsTheirKeyAreNotParkedAfterACrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(20, "a", "b")
		w := newWide(2, all)
		w.limits.BatchSize = 20
		w.broker.takes = func(id string) bool { return id != "e11" }
		saves := 0
		w.outbox.saveFails = func(int) error {
			if saves++; saves < 4 {
				return errAway
			}
			return nil
		}
		_, stop := w.start(t)
		defer stop()
		await(t, "the last position", func() bool { return w.outbox.position() == 20 })
		equal(t, "dead", w.letters.ids(), []string{"e11", "e13", "e15", "e17", "e19"})
		if l := w.letters.letters[0]; l.Attempts != 1 || l.Error != "too large" {
			t.Fatalf("the letter lost its own error: %+v", l)
		}
	})
}

func parked0(key string) string { return parked(key).Error() }

func TestNoMoreDeadLettersThanAllowedAndThePipelineSaysSo(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			all := events(60, "a", "b", "c", "d", "e")
			w := newWide(lanes, all)
			w.limits.OnError, w.limits.MaxDeadLetters = pipeline.DeadLetter, 3
			w.broker.takes = func(id string) bool { return len(id) < 3 || id[2] != '1' } // five of them: e11, e21, …
			_, stop := w.start(t)
			defer stop()
			blocked := func() bool { return w.registry.report(1).State == pipeline.StateBlocked }
			await(t, "blocked", blocked)
			<-time.After(10 * time.Minute)
			reason := w.registry.report(1).Reason
			for _, part := range []string{"has 3 dead letters", "max_dead_letters is 3", "dead_letter_discard", "event e"} {
				if !strings.Contains(reason, part) {
					t.Fatalf("reason %q does not say %q", reason, part)
				}
			}
			if len(w.letters.ids()) != 3 || w.letters.counts > 10*60+5 {
				t.Fatalf("dead %v, counted %d times", w.letters.ids(), w.letters.counts)
			}
			w.letters.discard(w.letters.ids()...)
			signal(w.registry.changed)
			await(t, "the last position", func() bool { return w.outbox.position() == 60 })
			await(t, "running", func() bool { return w.registry.report(1).State == pipeline.StateRunning })
			if w.letters.most != 3 || w.broker.opened != lanes {
				t.Fatalf("%d letters at once, %d connections", w.letters.most, w.broker.opened)
			}
		})
	}
}

func TestParkedEventsCountAgainstTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(300, "a", "b")
		w := newWide(2, all)
		w.limits.MaxDeadLetters = 120
		w.broker.takes = func(id string) bool { return id != "e1" }
		_, stop := w.start(t)
		defer stop()
		await(t, "blocked", func() bool { return w.registry.report(1).State == pipeline.StateBlocked })
		<-time.After(time.Minute)
		equal(t, "dead", w.letters.ids(), ofKey("a", ids(all), all)[:120])
		equal(t, "key b", ofKey("b", w.broker.all(), all), ofKey("b", ids(all), all))
		w.letters.discard("e1")
		signal(w.registry.changed)
		await(t, "the last position", func() bool { return w.outbox.position() == 300 && len(w.letters.ids()) == 0 })
		equal(t, "key a", ofKey("a", w.broker.all(), all), ofKey("a", ids(all), all)[1:])
	})
}

func TestBlockHoldsAllLanesAndNamesTheEventAndItsKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(20_000, "a", "b", "c", "d")
		w := newWide(4, all)
		w.limits.OnError, w.limits.MaxAttempts = pipeline.Block, 2
		bad := true
		w.broker.refuses = func(id string) bool { return bad && id == "e41" }
		_, stop := w.start(t)
		defer stop()
		await(t, "blocked", func() bool { return w.registry.report(1).State == pipeline.StateBlocked })
		<-time.After(5 * time.Minute)
		synctest.Wait()
		if r := w.registry.report(1); r.State != pipeline.StateBlocked || !strings.Contains(r.Reason, `event e41 (key "a")`) || r.Failed != 1 {
			t.Fatalf("got %+v", r)
		}
		if n := len(w.broker.all()); w.outbox.position() != 40 || n > 300 {
			t.Fatalf("position %d, %d events went on", w.outbox.position(), n)
		}
		w.set(func() { bad = false })
		await(t, "the last position", func() bool { return w.outbox.position() == 20_000 })
		if len(w.broker.all()) != 20_000 || len(w.letters.ids()) != 0 {
			t.Fatalf("%d stored, dead %v", len(w.broker.all()), w.letters.ids())
		}
	})
}

func TestLanesKeepOrderWhateverFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { checkLanes(t, rt) })
}

// checkLanes runs a flow whose connections break at any moment, with what they
// carried arriving late or not at all, whose events are refused, and whose
// lanes become more and fewer meanwhile, and who may be mended. Then everything
// has arrived in the order of its key, or is a dead letter, in the order of its
// key; but for poison that was refused when later events were on their way, or
// that has no key to wait for it.
func checkLanes(t *testing.T, rt *rapid.T) {
	n := rapid.IntRange(1, 300).Draw(rt, "events")
	keys := []string{"a", "b", "", "c", "d", "e"}[:rapid.IntRange(1, 6).Draw(rt, "keys")]
	all := events(n, keys...)
	counts := rapid.SliceOfN(rapid.SampledFrom([]int{1, 2, 4, 7}), 1, 4).Draw(rt, "lanes")
	w := newWide(counts[0], all)
	w.limits.OnError = rapid.SampledFrom([]pipeline.Policy{pipeline.DeadLetter, pipeline.ParkKey}).Draw(rt, "policy")
	w.limits.BatchSize = rapid.IntRange(1, 40).Draw(rt, "batch")
	w.options.Window = rapid.IntRange(1, 5).Draw(rt, "window")
	luck := &chance{budget: rapid.IntRange(0, 30).Draw(rt, "failures"), dice: rapid.SliceOfN(rapid.IntRange(0, 12), 64, 64).Draw(rt, "dice")}
	speed, rolls := rapid.SliceOfN(rapid.IntRange(0, 9), 16, 16).Draw(rt, "speed"), 0
	poison := rapid.SliceOfN(rapid.IntRange(1, n), 0, 5).Draw(rt, "poison")
	mended, mend := false, w.limits.OnError == pipeline.ParkKey && rapid.Bool().Draw(rt, "mended")
	isPoison := func(id string) bool {
		return slices.ContainsFunc(poison, func(i int) bool { return id == fmt.Sprintf("e%d", i) })
	}
	// every other poison event is refused by its receipt alone
	late := func(id string) bool { return isPoison(id) && id[len(id)-1]%2 == 0 }
	bad := func(id string) bool { return !mended && isPoison(id) }
	w.broker.breaks = luck.fails
	w.broker.dice = func() int { rolls++; return speed[rolls%len(speed)] }
	w.broker.takes = func(id string) bool { return !bad(id) || late(id) }
	w.broker.refuses = bad
	w.outbox.saveFails = func(int) error {
		if luck.fails() {
			return errAway
		}
		return nil
	}
	stuck := ""
	synctest.Test(t, func(t *testing.T) {
		w.outbox.more, w.registry.changed = make(chan struct{}), make(chan struct{}, 1)
		_, stop := w.start(t)
		defer stop()
		for i := range 60_000 {
			if w.outbox.position() == n && (!mend || len(w.letters.ids()) == 0) {
				break
			}
			<-time.After(10 * time.Millisecond)
			if mend && i%10 == 9 {
				w.set(func() { mended = true })
				w.letters.retryAll()
				signal(w.registry.changed)
			}
			if next := i/7 + 1; i%7 == 0 && next < len(counts) {
				w.set(func() { w.limits.Lanes = counts[next] })
				changed := spec(1, "p")
				changed.Version = int64(next + 1)
				w.registry.own(changed)
			}
		}
		if w.outbox.position() != n || mend && len(w.letters.ids()) > 0 {
			stuck = fmt.Sprintf("stuck at %d of %d: %+v", w.outbox.position(), n, w.registry.report(1))
		}
	})
	if stuck != "" {
		rt.Fatal(stuck)
	}
	checkKeys(rt, w, keys, bad, func(id string) bool { return late(id) || isPoison(id) && ofKey("", []string{id}, all) != nil })
}

// checkKeys compares each key's events with what became of them.
func checkKeys(rt *rapid.T, w *wide, keys []string, bad, mayLag func(id string) bool) {
	for _, key := range keys {
		stored, dead := ofKey(key, w.broker.all(), w.outbox.all), ofKey(key, w.letters.ids(), w.outbox.all)
		// what was on its way when an earlier event was refused may be parked
		// as well as stored
		onlyDead := slices.DeleteFunc(slices.Clone(dead), func(id string) bool { return slices.Contains(stored, id) })
		inTime := slices.DeleteFunc(slices.Clone(stored), mayLag)
		for _, list := range [][]string{inTime, onlyDead} {
			if !slices.IsSortedFunc(list, func(a, b string) int { return len(a)*10000 - len(b)*10000 + strings.Compare(a, b) }) {
				rt.Fatalf("key %q out of order: %v", key, list)
			}
		}
		for _, id := range ofKey(key, ids(w.outbox.all), w.outbox.all) {
			isStored, isDead := slices.Contains(stored, id), slices.Contains(dead, id)
			if !isStored && !isDead {
				rt.Fatalf("%s of key %q is lost", id, key)
			}
			if bad(id) != isDead && (w.limits.OnError == pipeline.DeadLetter || key == "" || !isDead) {
				rt.Fatalf("%s of key %q: dead %v", id, key, isDead)
			}
		}
	}
}
