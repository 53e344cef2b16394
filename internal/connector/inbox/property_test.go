package inbox

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// life is what the model knows of one event id.
type life struct {
	published time.Duration
	// arrived is when it was inserted; it must not be inserted again before
	// the retention has passed.
	arrived   time.Duration
	processed bool
	inserted  int
}

// Whatever is inserted, marked, cleaned, removed by hand, at whatever pace:
// an event id is inserted once within the retention, and what is not processed stays.
func TestEachEventIsPendingOnceUntilItIsProcessed(t *testing.T) {
	t.Parallel()
	rounds := 0
	rapid.Check(t, func(r *rapid.T) {
		rounds++
		if rounds > 12 {
			return // each takes a database
		}
		b := newBox(t, 0, 2)
		schematest.Exec(t, b.pool, `update tide.inbox set max_attempts = 1000`)
		lives := map[string]*life{}
		r.Repeat(map[string]func(*rapid.T){
			"insert": func(r *rapid.T) {
				deliver(t, r, b, lives)
			},
			"process": func(r *rapid.T) {
				digit := rapid.IntRange(0, 9).Draw(r, "digit")
				b.mark(t, fmt.Sprintf("event_id like '%%%d'", digit))
				for id, l := range lives {
					l.processed = l.processed || id[len(id)-1] == byte('0'+digit)
				}
			},
			"fail": func(r *rapid.T) {
				schematest.Exec(t, b.pool, `select tide.inbox_mark_failed('orders', id, 'declined', '0') from tide.inbox_pending('orders') limit 3`)
			},
			"delete": func(r *rapid.T) {
				schematest.Exec(t, b.pool, `delete from tide.orders_inbox where processed_at is not null`)
			},
			"pass": func(r *rapid.T) {
				b.pass(t, retention/20*time.Duration(rapid.IntRange(1, 12).Draw(r, "twentieths")))
			},
			"maintain": func(r *rapid.T) {
				b.maintain(t)
			},
			"": func(r *rapid.T) { compare(t, b, lives) },
		})
	})
}

func deliver(t *testing.T, r *rapid.T, b *box, lives map[string]*life) {
	source := rapid.SampledFrom([]string{ourSource, "stranger"}).Draw(r, "source")
	numbers := rapid.SliceOfN(rapid.IntRange(0, 59), 1, 12).Draw(r, "numbers")
	relay := rapid.SampledFrom(b.relays).Draw(r, "relay")
	var batch []message.Message
	want, mayAlso := 0, 0
	seen := map[string]bool{}
	for _, n := range numbers {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
		if n%7 == 0 {
			id = fmt.Sprintf("event %d", n)
		}
		l := lives[id]
		if l == nil {
			l = &life{published: b.elapsed}
			lives[id] = l
		}
		batch = append(batch, b.event(id, source, l.published))
		if seen[id] {
			continue
		}
		seen[id] = true
		switch {
		case l.inserted == 0:
			want++
			l.inserted, l.arrived = 1, b.elapsed
		case l.processed && b.elapsed-l.arrived >= retention:
			mayAlso++
		}
	}
	added, err := relay.Insert(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if added < want || added > want+mayAlso {
		t.Errorf("%d were added, want %d and perhaps %d more", added, want, mayAlso)
	}
	if added > want {
		forget(t, b, lives)
	}
}

// forget finds which event ids began a new life after the retention.
func forget(t *testing.T, b *box, lives map[string]*life) {
	rows, err := b.pool.Query(t.Context(), `select event_id from tide.orders_inbox where processed_at is null`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		if l := lives[id]; l.processed {
			l.processed, l.arrived = false, b.elapsed
		}
	}
}

func compare(t *testing.T, b *box, lives map[string]*life) {
	var doubled int
	schematest.Query(t, b.pool, `select count(*) - count(distinct event_id) from tide.orders_inbox`, nil, &doubled)
	if doubled != 0 {
		t.Errorf("%d are doubled", doubled)
	}
	pending := 0
	for _, l := range lives {
		if !l.processed {
			pending++
		}
	}
	if n := b.count(t, `processed_at is null`); n != pending {
		t.Errorf("%d are pending, want %d", n, pending)
	}
}

// Two pipelines bring the same events while parts are exchanged, cleaned and
// removed by hand as fast as that goes.
func TestTwoPipelinesDoNotDoubleWhilePartsAreExchanged(t *testing.T) {
	t.Parallel()
	b := newBox(t, 0, 2)
	const all, size = 6000, 50
	var total [2]int
	var inserters, cleaner sync.WaitGroup
	for i, relay := range b.relays {
		inserters.Go(func() {
			for from := 0; from < all; from += size {
				// Each batch brings half of the one before again.
				added, err := relay.Insert(t.Context(), b.events(max(0, from-size/2), from+size))
				if err != nil {
					t.Error(err)
					return
				}
				total[i] += added
			}
		})
	}
	stop := make(chan struct{})
	cleaner.Go(func() {
		for round := 0; ; round++ {
			select {
			case <-stop:
				return
			default:
			}
			// Only the parts grow older: the events stay young.
			schematest.Exec(t, b.pool, `update tide.inbox_part set opened_at = opened_at - $1::interval, closed_at = closed_at - $1::interval
				where kind = 'messages'`, retention)
			if round%3 == 0 {
				schematest.Exec(t, b.pool, `select tide.inbox_mark_processed('orders', array(select id from tide.inbox_pending('orders') limit 100))`)
				schematest.Exec(t, b.pool, `delete from tide.orders_inbox where id in (select id from tide.orders_inbox where processed_at is not null limit 20)`)
			}
			b.maintain(t)
		}
	})
	inserters.Wait()
	close(stop)
	cleaner.Wait()
	if total[0]+total[1] != all {
		t.Errorf("%d and %d were added, %d in all; there are %d events", total[0], total[1], total[0]+total[1], all)
	}
	b.mark(t, "true")
	if n := b.count(t, "true") + b.remembered(t); n < all {
		t.Errorf("%d of %d event ids are known", n, all)
	}
}
