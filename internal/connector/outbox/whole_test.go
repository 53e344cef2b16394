package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// deliveries is what a far end got of a reader that keeps transactions whole.
type deliveries struct {
	readings
	// torn counts whole transactions that came in parts.
	torn int
	// pages of whole transactions, and events of those that were too large.
	whole, parted int
	sizes         map[uint64]int
}

// take looks at a page: a transaction is in it whole, or its events say that
// it is too large.
func (d *deliveries) take(page message.Page, limit int) {
	d.pages++
	var current *message.Transaction
	closed := map[*message.Transaction]bool{}
	count := map[*message.Transaction]int{}
	for _, m := range page.Messages {
		if m.Transaction != current && current != nil && !current.Parted {
			closed[current] = true
		}
		current = m.Transaction
		if closed[current] || current.XID != m.XID {
			d.torn++ // others stand between its events
		}
		count[current]++
		if !d.seen[m.EventID] {
			d.seen[m.EventID] = true
			d.order = append(d.order, m)
		}
	}
	for transaction, n := range count {
		switch published := d.sizes[transaction.XID]; {
		case transaction.Parted && published <= limit:
			d.torn++
		case transaction.Parted:
			d.parted += n
		case n != published:
			d.torn++
		default:
			d.whole++
		}
	}
}

// readWhole reads in sessions that end at random, each from the saved position.
// What was read after it is forgotten, as if it had never arrived.
func readWhole(t *testing.T, b bus, r *Reader, limit int, last func() string) *deliveries {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 5))
	d := &deliveries{readings: readings{seen: map[string]bool{}, kept: map[string]bool{}}}
	var pages []message.Page
	for over := false; !over; {
		if err := r.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		session, pending := map[string]bool{}, []string{}
		for n := 1 + random.IntN(40); n > 0 && !over; n-- {
			size := 1 + random.IntN(100)
			if random.IntN(4) == 0 {
				size = 1 + random.IntN(8)
			}
			page, err := readFor(t, r, size)
			if errors.Is(err, context.DeadlineExceeded) {
				over = true
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, page)
			if r.drain != nil {
				d.drained++
			}
			for _, m := range page.Messages {
				if session[m.EventID] {
					d.doubled++
				}
				session[m.EventID] = true
				pending = append(pending, m.EventID)
			}
			if random.IntN(3) == 0 {
				if err := r.Save(t.Context(), page.Position); err != nil {
					t.Fatal(err)
				}
				d.keep(pending)
				pending = nil
			}
			over = last() != "" && session[last()]
		}
		if over {
			d.keep(pending)
		}
	}
	d.sizes = publishedBy(t, b)
	for _, page := range pages {
		d.take(page, limit)
	}
	return d
}

func (d *deliveries) keep(ids []string) {
	for _, id := range ids {
		d.kept[id] = true
	}
}

// publishedBy says how many events each transaction published.
func publishedBy(t *testing.T, b bus) map[uint64]int {
	t.Helper()
	sizes := map[uint64]int{}
	rows, err := b.pool.Query(t.Context(), "select xid, count(*) from tide.outbox_event group by xid")
	if err != nil {
		t.Fatal(err)
	}
	var xid uint64
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&xid, &n}, func() error { sizes[xid] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return sizes
}

func TestPagesNeverCutATransaction(t *testing.T) {
	t.Parallel()
	const limit = 120
	for _, major := range []int{pgtest.Oldest, pgtest.Newest} {
		t.Run(fmt.Sprintf("PostgreSQL %d", major), func(t *testing.T) {
			t.Parallel()
			b := newOwnBus(t, major, true)
			prepareLedger(t, b)
			var last atomic.Pointer[string]
			done := make(chan struct{})
			go func() {
				defer close(done)
				write(t, b, 12, trafficTime/2)
				var id string
				err := b.pool.QueryRow(context.WithoutCancel(t.Context()),
					`with p as (select tide.outbox_publish('orders', 'orders', '{}') as id)
					insert into ledger (event_id, n) select id, 0 from p returning event_id::text`).Scan(&id)
				if err != nil {
					t.Error(err)
				}
				last.Store(&id)
			}()
			r := New(b.catalog, b.spec)
			r.KeepTransactions(limit)
			d := readWhole(t, b, r, limit, func() string {
				if id := last.Load(); id != nil {
					return *id
				}
				return ""
			})
			<-done
			v := compare(t, b, &d.readings)
			t.Logf("%+v, %d torn, %d whole, %d parted, %d pages, %d of them of drains", v, d.torn, d.whole, d.parted, d.pages, d.drained)
			if v.lost+v.doubled+v.invented+v.disordered+d.torn != 0 {
				t.Errorf("%+v, %d torn", v, d.torn)
			}
			if d.whole < 100 || d.parted == 0 {
				t.Errorf("the traffic was too thin to prove anything: %d whole, %d parted", d.whole, d.parted)
			}
		})
	}
}

// wholeBus has a reader that keeps transactions of up to 10 events whole.
func wholeBus(t *testing.T) (bus, *Reader) {
	t.Helper()
	b := newBus(t, 0)
	r := New(b.catalog, b.spec)
	r.KeepTransactions(10)
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b, r
}

func TestATransactionComesWholeInThePlaceOfItsLastEvent(t *testing.T) {
	t.Parallel()
	b, r := wholeBus(t)
	long := begin(t, b)
	first := long.publish()
	between := publish(t, b)
	second := long.publish()
	others := []string{publish(t, b), publish(t, b)}
	third := long.publish()
	long.commit()
	after := publish(t, b)

	// Pages of two cut the transaction more than once.
	expectAll(t, r, 2, append([]string{between}, append(others, first, second, third, after)...))
}

func expectAll(t *testing.T, r *Reader, limit int, want []string) {
	t.Helper()
	var got []string
	for len(got) < len(want) {
		page, err := readFor(t, r, limit)
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got = append(got, eventIDs(page.Messages)...)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("read %v, want %v", got, want)
	}
}

func TestASavedPositionDoesNotPassAnEventThatWasHeldBack(t *testing.T) {
	t.Parallel()
	b, r := wholeBus(t)
	long := begin(t, b)
	held := long.publish()
	between := publish(t, b)
	end := long.publish()
	long.commit()

	page := read(t, r, 2)
	if got := eventIDs(page.Messages); !slices.Equal(got, []string{between}) {
		t.Fatalf("read %v, want %v", got, between)
	}
	if err := r.Save(t.Context(), page.Position); err != nil {
		t.Fatal(err)
	}
	// A reader of single events goes on from there as well.
	single := b.open(t)
	if got := eventIDs(read(t, single, 10).Messages); !slices.Contains(got, held) || !slices.Contains(got, end) {
		t.Errorf("read %v behind the saved position, which lacks %s or %s", got, held, end)
	}
}

func TestALateTransactionComesWhole(t *testing.T) {
	t.Parallel()
	b, r := wholeBus(t)
	late := begin(t, b)
	want := []string{late.publish(), late.publish()}
	expect(t, r, 10, publish(t, b))
	want = append(want, late.publish())
	late.commit()
	expect(t, r, 1, want...)
	expect(t, r, 1, publish(t, b))
}

func TestATransactionThatIsTooLargeComesEventByEvent(t *testing.T) {
	t.Parallel()
	b, r := wholeBus(t)
	large := begin(t, b)
	large.publishMany(11)
	large.commit()
	for read := 0; read < 11; {
		page, err := readFor(t, r, 4)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Messages) > 4 {
			t.Fatalf("%d events in a page of 4", len(page.Messages))
		}
		for _, m := range page.Messages {
			if m.Transaction == nil || !m.Transaction.Parted {
				t.Fatalf("event %d does not say that its transaction is parted", m.OutboxID)
			}
		}
		read += len(page.Messages)
	}
}
