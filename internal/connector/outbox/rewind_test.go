package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// rewind makes the pipeline send again, and returns the reader of the owner
// that follows, and the last id that is not sent again.
func rewind(t *testing.T, b bus, to string) (r *Reader, last int64) {
	t.Helper()
	schematest.Exec(t, b.pool, `select tide.relay_rewind($1, `+to+`)`, b.spec.Name)
	schematest.Query(t, b.pool, `select fence from tide.pipeline_owner where pipeline_id = $1`, []any{b.spec.ID}, &b.spec.Fence)
	schematest.Query(t, b.pool, `select coalesce((select last_id from tide.pipeline_position where pipeline_id = $1 order by seq desc limit 1), 0)`,
		[]any{b.spec.ID}, &last)
	return b.open(t), last
}

func readAndSave(t *testing.T, r *Reader, limit int) []string {
	t.Helper()
	page := read(t, r, limit)
	if err := r.Save(t.Context(), page.Position); err != nil {
		t.Fatal(err)
	}
	return eventIDs(page.Messages)
}

func TestARewindSendsAgainAndFindsWhatIsLate(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	slow := begin(t, b)
	late := slow.publish()
	first, second := publish(t, b), publish(t, b)
	if got := readAndSave(t, b.open(t), 10); !slices.Equal(got, []string{first, second}) {
		t.Fatalf("read %v", got)
	}
	r, _ := rewind(t, b, `(select published_at from tide.outbox_event order by id desc limit 1)`)
	expect(t, r, 10, second)
	slow.commit()
	expect(t, r, 10, late)

	r, _ = rewind(t, b, `'-infinity'`)
	expect(t, r, 10, late, first, second)
}

func TestARewindWinsOverTheReaderAtWork(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	first := publish(t, b)
	old := b.open(t)
	readAndSave(t, old, 10)
	second := publish(t, b)
	page := read(t, old, 10)
	r, _ := rewind(t, b, `'-infinity'`)
	if verdict, _ := delivery.VerdictOf(old.Save(t.Context(), page.Position)); verdict != delivery.VerdictSuperseded {
		t.Error("the reader from before saved over the rewind")
	}
	publish(t, b)
	if _, err := old.Read(t.Context(), 10); err == nil {
		t.Error("the reader from before reads on")
	}
	expect(t, r, 2, first, second)
}

func TestARewindWithinARoundOfLateEventsKeepsTheRound(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	bulk := begin(t, b)
	bulk.publishMany(15)
	first := publish(t, b)
	bulk.publishMany(10)
	second := publish(t, b)
	r := b.open(t)
	if got := readAndSave(t, r, 10); !slices.Equal(got, []string{first, second}) {
		t.Fatalf("read %v", got)
	}
	bulk.commit()
	sent := readAndSave(t, r, 10) // 10 of 25 late ones: a round is under way
	r, _ = rewind(t, b, `(select published_at from tide.outbox_event where event_id = '`+first+`')`)
	again := map[string]bool{}
	for range 4 {
		for _, id := range eventIDs(read(t, r, 10).Messages) {
			again[id] = true
		}
		if len(again) >= 17 {
			break
		}
	}
	if len(again) != 17 || !again[first] || !again[second] || again[sent[0]] {
		t.Errorf("%d events came again, want 5 of the round and the 12 from the first on", len(again))
	}
}

// While events are published in every way, the pipeline is rewound again and
// again: nothing is lost, and all that a rewind names comes again.
func TestRewindsLoseNothing(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, pgtest.Newest, true)
	prepareLedger(t, b)
	var last atomic.Pointer[string]
	done := make(chan struct{})
	go func() {
		defer close(done)
		write(t, b, 8, trafficTime/2)
		id := ""
		err := b.pool.QueryRow(context.WithoutCancel(t.Context()),
			`with p as (select tide.outbox_publish('orders', 'orders', '{}') as id)
			insert into ledger (event_id, n) select id, 0 from p returning event_id::text`).Scan(&id)
		if err != nil {
			t.Error(err)
		}
		last.Store(&id)
	}()
	got, due := readRewinding(t, b, rand.New(rand.NewPCG(3, 3)), &last)
	<-done
	v := compare(t, b, got)
	t.Logf("%+v in %d pages, %d of them of drains", v, got.pages, got.drained)
	if v.lost+v.invented+v.disordered+len(due) != 0 || v.committed < 50 {
		t.Errorf("%+v; %d events did not come again after a rewind", v, len(due))
	}
}

// readRewinding reads until the event last and rewinds now and then. due are the
// events that a rewind named and that did not come again.
func readRewinding(t *testing.T, b bus, random *rand.Rand, last *atomic.Pointer[string]) (got *readings, due map[string]bool) {
	got, due = &readings{seen: map[string]bool{}}, map[string]bool{}
	r := b.open(t)
	for rewinds := 0; ; {
		if rewinds < 12 && random.IntN(12) == 0 {
			rewinds++
			var after int64
			r, after = rewind(t, b, fmt.Sprintf(`coalesce((select greatest(min(published_at), now() - interval '%d milliseconds')
				from tide.outbox_event), '-infinity')`, random.IntN(900)))
			for _, m := range got.order {
				if m.OutboxID > after {
					due[m.EventID] = true
				}
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		page, err := r.Read(ctx, 1+random.IntN(100))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return got, due
		}
		if err != nil {
			t.Fatal(err)
		}
		got.pages++
		if page.Position.DrainSnapshot != "" {
			got.drained++
		}
		reached := false
		for _, m := range page.Messages {
			delete(due, m.EventID)
			if id := last.Load(); id != nil && *id == m.EventID {
				reached = true
			}
			if !got.seen[m.EventID] {
				got.seen[m.EventID] = true
				got.order = append(got.order, m)
			}
		}
		if reached {
			return got, due
		}
		if err := r.Save(t.Context(), page.Position); err != nil {
			t.Fatal(err)
		}
	}
}

// saveUpTo saves a position of the next n events, with a mark.
func saveUpTo(t *testing.T, r *Reader, n int, mark string) message.Position {
	t.Helper()
	page := read(t, r, n)
	page.Position.Mark = mark
	if err := r.Save(t.Context(), page.Position); err != nil {
		t.Fatal(err)
	}
	return page.Position
}

func TestGoesBackToAnEarlierPositionAndForgetsThoseAfterIt(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	slow := begin(t, b)
	late := slow.publish()
	var all []string
	for range 6 {
		all = append(all, publish(t, b))
	}
	r := b.open(t)
	saveUpTo(t, r, 2, `{"n": 2}`)
	saveUpTo(t, r, 2, "")
	saveUpTo(t, r, 2, `{"n": 6}`)
	saved, err := r.Marked(t.Context(), 0)
	if err != nil || len(saved) != 2 || saved[0].Mark != `{"n": 6}` || saved[1].Mark != `{"n": 2}` || saved[1].At.IsZero() {
		t.Fatalf("marked positions %+v, %v", saved, err)
	}
	if err := r.Rewind(t.Context(), saved[1].Sequence); err != nil {
		t.Fatal(err)
	}
	expect(t, r, 10, all[2:]...)
	slow.commit()
	expect(t, r, 10, late)

	// The next session starts there, and of what was lost nothing is left.
	r = b.open(t)
	if saved, err = r.Marked(t.Context(), 1); err != nil || len(saved) != 1 || saved[0].Mark != `{"n": 2}` || saved[0].Sequence != 4 {
		t.Fatalf("marked positions %+v, %v", saved, err)
	}
	expect(t, r, 10, append([]string{late}, all[2:]...)...)

	if err := r.Rewind(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	expect(t, r, 10, append([]string{late}, all...)...)
	if saved, err = r.Marked(t.Context(), 1); err != nil || len(saved) != 0 {
		t.Fatalf("marked positions %+v, %v", saved, err)
	}
}

func TestGoingBackSendsNothingThatARewindHasStillToSend(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	for range 4 {
		publish(t, b)
	}
	r := b.open(t)
	saveUpTo(t, r, 3, `{"n": 3}`)
	saveUpTo(t, r, 1, `{"n": 4}`)
	r, _ = rewind(t, b, `'-infinity'`)
	first := saveUpTo(t, r, 1, `{"n": 4}`)
	if err := r.Rewind(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if page := read(t, r, 10); len(page.Messages) != 3 || page.Messages[0].OutboxID != first.LastID+1 {
		t.Errorf("read %d events from %d on, want those after %d", len(page.Messages), page.Messages[0].OutboxID, first.LastID)
	}
}

func TestASupersededReaderCannotGoBack(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	publish(t, b)
	r := b.open(t)
	saveUpTo(t, r, 1, `{"n": 1}`)
	schematest.Supersede(t, b.pool, b.spec)
	if verdict, _ := delivery.VerdictOf(r.Rewind(t.Context(), 0)); verdict != delivery.VerdictSuperseded {
		t.Error("a superseded reader went back")
	}
}

func TestKeepsOnePositionAMinuteForTheRetention(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	schematest.Exec(t, b.pool, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, incarnation, saved_at)
		select `+fmt.Sprint(b.spec.ID)+`, n, '3:3:', 0, '3', 1, date_trunc('hour', now()) - interval '30 hours' + n * interval '10 seconds'
		from generate_series(1, 8 * 360) n`)
	schematest.Exec(t, b.pool, `update tide.outbox set retention = '1 day'`)
	owner := catalog.OwnerOf(b.spec)
	// In two steps, as the reader does it.
	for _, step := range [][2]int64{{1, 1400}, {1400, 2871}} {
		if err := b.catalog.PrunePositions(t.Context(), owner, step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.catalog.ExpirePositions(t.Context(), owner, 2871); err != nil {
		t.Fatal(err)
	}
	var left, newest, old int
	schematest.Query(t, b.pool, `select count(*), count(*) filter (where seq >= 2871), count(*) filter (where saved_at < now() - interval '1 day' - interval '1 minute')
		from tide.pipeline_position`, nil, &left, &newest, &old)
	// One to two hours of minutes, and the ten newest.
	if newest != 10 || old != 0 || left < 60 || left > 140 {
		t.Errorf("%d positions are left, %d of the newest and %d too old", left, newest, old)
	}
}

// A dead letter that was delivered late lies below the position, and is lost
// with the end of the stream all the same.
func TestGoingBackSendsDeadLettersAgainThatWereDeliveredSince(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	var all []string
	for range 5 {
		all = append(all, publish(t, b))
	}
	r := b.open(t)
	page := read(t, r, 3)
	letters := b.catalog.DeadLetters(catalog.OwnerOf(b.spec))
	if err := letters.Add(t.Context(), []message.DeadLetter{{Message: page.Messages[1], Error: "refused", Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	page.Position.Mark = `{"n": 3}`
	if err := r.Save(t.Context(), page.Position); err != nil {
		t.Fatal(err)
	}
	schematest.Exec(t, b.pool, `update tide.pipeline_position set saved_at = saved_at - interval '10 minutes'`)
	var id int64
	schematest.Query(t, b.pool, `select id from tide.dead_letter`, nil, &id)
	if err := letters.Settle(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	saveUpTo(t, r, 2, `{"n": 6}`)
	if err := r.Rewind(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	expect(t, r, 10, all[1:]...)

	// One that was delivered long before the position needs no repetition.
	schematest.Exec(t, b.pool, `update tide.dead_letter_sent set sent_at = sent_at - interval '30 minutes'`)
	saveUpTo(t, b.open(t), 2, `{"n": 3}`)
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	saveUpTo(t, r, 2, `{"n": 6}`)
	saved, err := r.Marked(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Rewind(t.Context(), saved[1].Sequence); err != nil {
		t.Fatal(err)
	}
	expect(t, r, 10, all[3:]...)
}
