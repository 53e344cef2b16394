package relay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// inTransactions makes events of transactions of the given sizes, and returns
// the ids of each.
func inTransactions(sizes []int) (all []message.Message, of [][]string) {
	total := 0
	for _, size := range sizes {
		total += size
	}
	all = events(total, "a", "", "b")
	from := 0
	for i, size := range sizes {
		t := &message.Transaction{XID: uint64(i + 1)}
		for j := range all[from : from+size] {
			all[from+j].Transaction = t
		}
		of = append(of, ids(all[from:from+size]))
		from += size
	}
	return all, of
}

// torn returns the transaction of which only a part is among the ids sent at once.
func torn(sent []string, of [][]string) []string {
	for _, transaction := range of {
		n := 0
		for _, id := range transaction {
			if slices.Contains(sent, id) {
				n++
			}
		}
		if n != 0 && n != len(transaction) {
			return transaction
		}
	}
	return nil
}

func TestTransactionsGoOutWholeWhateverFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { checkWhole(t, rt) })
}

// checkWhole runs a flow of transactions some of whose events are filtered,
// some refused for good by the codec, some by the sink before it sends anything,
// while receipts and saves fail. No send ever holds a part of one, a refused
// one is set aside whole, and the others arrive in order.
func checkWhole(t *testing.T, rt *rapid.T) {
	sizes := rapid.SliceOfN(rapid.IntRange(1, 12), 1, 25).Draw(rt, "sizes")
	all, whole := inTransactions(sizes)
	id := func(label string) []string {
		var chosen []string
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(all)-1), 0, 4).Draw(rt, label) {
			chosen = append(chosen, all[i].EventID)
		}
		return chosen
	}
	filtered, garbled, oversize := id("filtered"), id("garbled"), id("oversize")
	for i := range all {
		if slices.Contains(garbled, all[i].EventID) && !slices.Contains(filtered, all[i].EventID) {
			all[i].Payload = []byte("bad")
		}
	}
	f := newFlow(all)
	f.limits.BatchSize = rapid.IntRange(1, 30).Draw(rt, "batch")
	f.options.Window = rapid.IntRange(1, 4).Draw(rt, "window")
	f.limits.OnError = rapid.SampledFrom([]pipeline.Policy{pipeline.Block, pipeline.DeadLetter}).Draw(rt, "policy")
	if burst := rapid.IntRange(0, 8).Draw(rt, "burst"); burst > 0 {
		f.limits.RateLimit = pipeline.RateLimit{PerSecond: 10_000, Burst: burst}
	}
	luck := &chance{budget: rapid.IntRange(0, 20).Draw(rt, "failures"), dice: rapid.SliceOfN(rapid.IntRange(0, 6), 32, 32).Draw(rt, "dice")}
	var mended atomic.Bool
	f.changes = []Change{changeFunc(func(m *message.Message) (bool, error) {
		if mended.Load() {
			m.Payload = []byte("{}")
		}
		return !slices.Contains(filtered, m.EventID), nil
	})}
	kept := make([][]string, len(whole))
	var sent, aside []string
	for i := range whole {
		kept[i] = without(whole[i], filtered...)
		if slices.ContainsFunc(kept[i], func(id string) bool { return slices.Contains(garbled, id) || slices.Contains(oversize, id) }) {
			aside = append(aside, kept[i]...)
		} else {
			sent = append(sent, kept[i]...)
		}
	}
	if f.limits.OnError == pipeline.Block {
		sent, aside = without(ids(all), filtered...), nil // once it is mended
	}
	f.sink.sendFails = func(now []string) error {
		if part := torn(now, kept); part != nil {
			rt.Errorf("%v were sent, which tears %v", now, part)
		}
		failed := map[int]error{}
		for i, id := range now {
			if !mended.Load() && slices.Contains(oversize, id) {
				failed[i] = delivery.Reject(errors.New("too large"))
			}
		}
		if len(failed) > 0 {
			return &delivery.Partial{Failed: failed}
		}
		return nil
	}
	f.sink.outcome = func(ids []string) ([]string, error) {
		if luck.fails() {
			return nil, errAway
		}
		return ids, nil
	}
	f.outbox.saveFails = func(int) error {
		if luck.fails() {
			return errAway
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		f.outbox.more, f.registry.changed = make(chan struct{}), make(chan struct{}, 1)
		_, stop := f.start(t)
		defer stop()
		if f.limits.OnError == pipeline.Block && len(garbled)+len(oversize) > 0 {
			await(t, "the end, or a block", func() bool {
				return f.outbox.position() == len(all) || f.registry.report(1).State == pipeline.StateBlocked
			})
			mended.Store(true)
		}
		await(t, "the last position", func() bool { return f.outbox.position() == len(all) })
	})
	if got := firsts(f.sink.all()); !slices.Equal(got, sent) {
		rt.Fatalf("stored %v, want %v", got, sent)
	}
	if got := f.letters.ids(); !slices.Equal(got, aside) {
		rt.Fatalf("set aside %v, want %v", got, aside)
	}
}

func TestARefusedEventTakesItsTransactionAsideAndSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, of := inTransactions([]int{2, 3, 2})
		all[3].Payload = []byte("bad")
		f := newFlow(all)
		_, stop := f.start(t)
		defer stop()
		await(t, "the last position", func() bool { return f.outbox.position() == len(all) })
		equal(t, "stored", f.sink.all(), append(slices.Clone(of[0]), of[2]...))
		equal(t, "set aside", f.letters.ids(), of[1])
		if text := f.letters.letters[2].Error; !strings.Contains(text, "event e4 of the same transaction was refused") {
			t.Errorf("the error of its neighbour: %s", text)
		}
	})
}

// remarkingSink does less than was asked of it.
type remarkingSink struct{ *fakeSink }

func (remarkingSink) Remark() string { return "the server is old" }

func TestWhatASinkRemarksIsTheReasonWhileItRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(3))
		away := false
		f.sink.sendFails = func([]string) error {
			if away {
				return errAway
			}
			return nil
		}
		_, stop := start(t, f.registry, func(spec pipeline.Spec) (Plan, error) {
			return Plan{Spec: spec, Limits: f.limits, Codec: fakeCodec{}, DeadLetters: f.letters, Reader: f.outbox, Sink: remarkingSink{f.sink}}, nil
		}, f.options)
		defer stop()
		running := func() bool {
			r := f.registry.report(1)
			return r.State == pipeline.StateRunning && r.Reason == "the server is old"
		}
		await(t, "the remark", running)
		f.sink.mu.Lock()
		away = true
		f.sink.mu.Unlock()
		f.outbox.publish(message.Message{EventID: "e4", OutboxID: 4, Payload: []byte("{}")})
		await(t, "waiting", func() bool { return f.registry.report(1).State == pipeline.StateWaiting })
		f.sink.mu.Lock()
		away = false
		f.sink.mu.Unlock()
		await(t, "the remark again", running)
	})
}

func TestAPartIsCutBehindAWholeTransaction(t *testing.T) {
	t.Parallel()
	all, _ := inTransactions([]int{1, 4, 2})
	parted := &message.Transaction{Parted: true}
	more := events(3)
	for i := range more {
		more[i].Transaction = parted
	}
	var items []item
	for _, m := range append(all, more...) {
		items = append(items, item{event: &m})
	}
	var ends []string
	for from := 0; from < len(items); {
		from = cut(items, from, 2)
		ends = append(ends, fmt.Sprint(from))
	}
	equal(t, "ends", ends, []string{"5", "7", "9", "10"})
	if cut(nil, 0, 5) != 0 || cut(items[:1], 0, 5) != 1 {
		t.Error("cut goes beyond the end")
	}
}
