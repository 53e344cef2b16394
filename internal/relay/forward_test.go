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

// flow is a forward pipeline of fakes.
type flow struct {
	outbox   *fakeOutbox
	sink     *fakeSink
	letters  *fakeLetters
	registry *fakeRegistry
	limits   pipeline.Limits
	changes  []Change
	options  Options
	farEnd   string
}

func newFlow(all []message.Message) *flow {
	return &flow{
		outbox: newOutbox(all), sink: newSink(), letters: newLetters(),
		registry: newRegistry(pipeline.Spec{ID: 1, Name: "p", Direction: pipeline.Forward, Version: 1, Fence: 1}),
		limits:   pipeline.Limits{BatchSize: 10, MaxAttempts: 3, OnError: pipeline.DeadLetter},
	}
}

func (f *flow) start(t testing.TB) (*Supervisor, func()) {
	return start(t, f.registry, func(spec pipeline.Spec) (Plan, error) {
		return Plan{Spec: spec, Limits: f.limits, FarEnd: f.farEnd, Codec: fakeCodec{}, Changes: f.changes, DeadLetters: f.letters,
			Reader: f.outbox, Sink: f.sink}, nil
	}, f.options)
}

func ids(all []message.Message) (list []string) {
	for i := range all {
		list = append(list, all[i].EventID)
	}
	return list
}

func without(list []string, some ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(id string) bool { return slices.Contains(some, id) })
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func TestDeliversInOrderAndSavesThePosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(95)
		f := newFlow(all)
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == 95 })
		equal(t, "stored", f.sink.all(), ids(all))
		await(t, "the report", func() bool { return f.registry.report(1).Delivered == 95 })
		if r := f.registry.report(1); r.State != pipeline.StateRunning || r.Reason != "" {
			t.Fatalf("got %+v", r)
		}
	})
}

func TestResendsInOrderFromTheSavedPositionAfterAFailedReceipt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(60)
		f := newFlow(all)
		fails := 3
		f.sink.outcome = func(ids []string) ([]string, error) {
			if slices.Contains(ids, "e35") && fails > 0 {
				fails--
				return ids[:2], errAway
			}
			return ids, nil
		}
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == 60 })
		equal(t, "saved in steps", []string{fmt.Sprint(slices.IsSorted(f.outbox.saves))}, []string{"true"})
		// after each failure the whole rest comes again, in order
		stored := f.sink.all()
		for i, id := range slices.Backward(stored) {
			if id == "e31" {
				equal(t, "resent", stored[i:], ids(all[30:]))
				return
			}
		}
	})
}

func TestReasonsCallTheFarEndByItsName(t *testing.T) {
	t.Parallel()
	for threshold, words := range map[int]string{0: "waiting for the other database since ", 2: "because the other database failed 2 times in a row"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFlow(events(3))
			f.farEnd = "the other database"
			f.limits.CircuitBreaker = pipeline.CircuitBreaker{FailureThreshold: threshold, Open: time.Minute}
			f.sink.openFails = func() error { return errAway }
			_, stop := f.start(t)
			defer stop()
			await(t, words, func() bool { return strings.Contains(f.registry.report(1).Reason, words) })
		})
	}
}

func TestReportsWhatItWaitsForAndRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(3))
		away := true
		f.sink.openFails = func() error {
			if away {
				return errAway
			}
			return nil
		}
		_, stop := f.start(t)
		defer stop()
		await(t, "waiting", func() bool { return f.registry.report(1).State == pipeline.StateWaiting })
		if r := f.registry.report(1).Reason; !strings.Contains(r, "waiting for the broker since") || !strings.Contains(r, "connection refused") {
			t.Fatalf("reason %q", r)
		}
		<-time.After(time.Minute)
		f.sink.mu.Lock()
		away = false
		f.sink.mu.Unlock()
		await(t, "delivery", func() bool { return f.outbox.position() == 3 })
		await(t, "running", func() bool { return f.registry.report(1).State == pipeline.StateRunning })
		if f.registry.report(1).LastError == "" {
			t.Fatal("the last error did not survive recovery")
		}
		if f.outbox.saved != 3 {
			t.Fatal("lost")
		}
	})
}

func TestMisconfiguredIsShownAsItIsAndTriedAgainSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(nil)
		tries := 0
		f.sink.openFails = func() error {
			tries++
			return delivery.Misconfigured(errors.New("stream \"S\" is sealed; use another"))
		}
		_, stop := f.start(t)
		defer stop()
		<-time.After(time.Minute)
		synctest.Wait()
		r := f.registry.report(1)
		if r.State != pipeline.StateMisconfigured || r.Reason != "stream \"S\" is sealed; use another" {
			t.Fatalf("got %+v", r)
		}
		if tries < 4 || tries > 12 {
			t.Fatalf("%d tries in a minute", tries)
		}
	})
}

func TestSavesCoalesceWhenTheDatabaseIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(1000))
		f.outbox.saving = make(chan struct{})
		_, stop := f.start(t)
		defer stop()
		synctest.Wait() // everything is acknowledged, the first save hangs
		if got := len(f.sink.all()); got != 1000 {
			t.Fatalf("a slow save stopped the flow at %d", got)
		}
		f.outbox.saving <- struct{}{}
		f.outbox.saving <- struct{}{}
		synctest.Wait()
		if f.outbox.position() != 1000 || len(f.outbox.saves) != 2 {
			t.Fatalf("position %d after saves %v", f.outbox.position(), f.outbox.saves)
		}
	})
}

func TestFilteredEventsAdvanceThePositionWithoutASend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(500))
		f.changes = []Change{changeFunc(func(*message.Message) (bool, error) { return false, nil })}
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == 500 })
		if f.sink.sends != 0 {
			t.Fatalf("%d sends", f.sink.sends)
		}
		<-time.After(time.Minute)
		if n := len(f.outbox.saves); n > 50 {
			t.Fatalf("%d saves for 50 pages", n)
		}
		if r := f.registry.report(1); r.Filtered != 500 || r.Delivered != 0 {
			t.Fatalf("got %+v", r)
		}
	})
}

func TestMemoryIsBoundedWhileTheSinkIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(100_000))
		f.sink.receipts = make(chan struct{})
		f.options.Window = 4
		_, stop := f.start(t)
		defer stop()
		synctest.Wait()
		// the window, one page at the sender, one waiting, one in the reader's hand
		if f.sink.most > 4 || f.outbox.read > 4+1+pagesAhead+1 {
			t.Fatalf("%d sends outstanding, %d pages read", f.sink.most, f.outbox.read)
		}
		if f.outbox.position() != 0 {
			t.Fatalf("position %d without any acknowledgement", f.outbox.position())
		}
	})
}

func TestStopWaitsForReceiptsAndSaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(30))
		f.sink.receipts = make(chan struct{})
		_, stop := f.start(t)
		synctest.Wait()
		go func() {
			for range 3 {
				f.sink.receipts <- struct{}{}
			}
		}()
		stop()
		if f.outbox.position() != 30 || f.registry.left != 1 {
			t.Fatalf("position %d, left %d", f.outbox.position(), f.registry.left)
		}
		if f.outbox.closed == 0 {
			t.Fatal("the reader was not closed")
		}
	})
}

func TestStopCutsOffWhatHangsAfterTheDrainTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(30))
		f.sink.receipts = make(chan struct{})
		_, stop := f.start(t)
		synctest.Wait()
		begun := time.Now()
		stop()
		if took := time.Since(begun); took != 5*time.Second {
			t.Fatalf("took %v", took)
		}
		if f.outbox.position() != 0 {
			t.Fatal("saved what was not acknowledged")
		}
	})
}

func TestSupersededPipelineStopsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(100))
		f.outbox.saveFails = func(int) error { return delivery.Superseded(errors.New("another relay owns it")) }
		f.registry.specs[0].Fence = 7
		s, stop := f.start(t)
		defer stop()
		synctest.Wait()
		f.registry.own() // the database agrees
		await(t, "the end", func() bool { return len(s.Pipelines()) == 0 })
		opened := f.outbox.opened
		<-time.After(time.Minute)
		if f.outbox.opened != opened || f.outbox.position() != 0 {
			t.Fatal("went on after it was superseded")
		}
	})
}

func TestPositionNeverPassesAnUnacknowledgedEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { checkRandomFailures(t, rt) })
}

// checkRandomFailures runs a flow against a sink and a database that fail at
// random and compares each saved position with what was acknowledged.
func checkRandomFailures(t *testing.T, rt *rapid.T) {
	n := rapid.IntRange(1, 120).Draw(rt, "events")
	f := newFlow(events(n, "a", "b", "c"))
	f.limits.BatchSize = rapid.IntRange(1, 17).Draw(rt, "batch")
	f.options.Window = rapid.IntRange(1, 5).Draw(rt, "window")
	f.limits.OnError = rapid.SampledFrom([]pipeline.Policy{pipeline.DeadLetter, pipeline.ParkKey}).Draw(rt, "policy")
	budget := rapid.IntRange(0, 25).Draw(rt, "failures")
	dice := rapid.SliceOfN(rapid.IntRange(0, 5), 64, 64).Draw(rt, "dice")
	poison := rapid.SliceOfN(rapid.IntRange(1, n), 0, 4).Draw(rt, "poison")
	filtered := rapid.SliceOfN(rapid.IntRange(1, n), 0, 10).Draw(rt, "filtered")
	isFiltered := func(id string) bool {
		return slices.ContainsFunc(filtered, func(i int) bool { return id == fmt.Sprintf("e%d", i) })
	}
	bad := func(id string) bool {
		return slices.ContainsFunc(poison, func(i int) bool { return id == fmt.Sprintf("e%d", i) })
	}
	luck := &chance{budget: budget, dice: dice}
	f.changes = []Change{changeFunc(func(m *message.Message) (bool, error) { return !isFiltered(m.EventID), nil })}
	f.sink.sendFails = func([]string) error {
		if luck.fails() {
			return errAway
		}
		return nil
	}
	f.sink.outcome = func(ids []string) ([]string, error) {
		if luck.fails() {
			some, _ := refuse(bad)(ids[:len(ids)/2])
			return some, errAway
		}
		return refuse(bad)(ids)
	}
	failure := ""
	f.outbox.saveFails = func(last int) error {
		f.sink.mu.Lock()
		defer f.sink.mu.Unlock()
		dead := f.letters.ids()
		for _, m := range f.outbox.all[:last] {
			if !f.sink.acked[m.EventID] && !isFiltered(m.EventID) && !slices.Contains(dead, m.EventID) {
				failure = fmt.Sprintf("saved %d before %s was acknowledged", last, m.EventID)
			}
		}
		if last <= f.outbox.saved {
			failure = fmt.Sprintf("position went back from %d to %d", f.outbox.saved, last)
		}
		if luck.fails() {
			return errAway
		}
		return nil
	}
	stuck := ""
	synctest.Test(t, func(t *testing.T) {
		// channels belong to the bubble that they are made in
		f.outbox.more, f.registry.changed = make(chan struct{}), make(chan struct{}, 1)
		_, stop := f.start(t)
		defer stop()
		for range 60_000 {
			if f.outbox.position() == n || failure != "" {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
		stuck = fmt.Sprintf("stuck at %d of %d: %+v", f.outbox.position(), n, f.registry.report(1))
	})
	if failure+stuck != "" {
		rt.Fatal(failure + stuck)
	}
	checkOrder(rt, f)
}

// checkOrder compares first arrivals: they are in order for every key.
func checkOrder(rt *rapid.T, f *flow) {
	order, dead := firsts(f.sink.all()), f.letters.ids()
	place := map[string]int{}
	for i, id := range order {
		place[id] = i
	}
	last := map[string]int{}
	for _, m := range f.outbox.all {
		at, stored := place[m.EventID]
		if !stored {
			continue
		}
		if at < last[m.Key] {
			rt.Fatalf("%s arrived before an earlier event of its key: %v (dead %v)", m.EventID, order, dead)
		}
		last[m.Key] = at
	}
}

// A far end that takes events and acknowledges none, as one whose disk is
// full: what the status says does not turn well between two attempts.
func TestWhatIsNeverAcknowledgedIsNotCalledRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(5))
		f.sink.receipts = make(chan struct{})
		f.options.CallTimeout = 5 * time.Second
		_, stop := f.start(t)
		defer stop()
		await(t, "waiting", func() bool { return f.registry.report(1).State == pipeline.StateWaiting })
		reason := f.registry.report(1).Reason
		for range 300 {
			<-time.After(100 * time.Millisecond)
			if r := f.registry.report(1); r.State != pipeline.StateWaiting || r.Reason != reason {
				t.Fatalf("%s: %q, at first %q", r.State, r.Reason, reason)
			}
		}
		close(f.sink.receipts)
		await(t, "running", func() bool { return f.registry.report(1).State == pipeline.StateRunning })
	})
}
