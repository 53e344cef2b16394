package outbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

const trafficTime = 4 * time.Second

// trial runs traffic against a reader, at least until it had occasion for so
// many pages of drains, and compares.
func trial(t *testing.T, b bus, r *Reader, pages int64) (verdict, *readings) {
	t.Helper()
	prepareLedger(t, b)
	var last atomic.Pointer[string]
	var at progress
	done := make(chan struct{})
	go func() {
		defer close(done)
		write(t, b, 12, trafficTime)
		for rounds := 0; at.drains.Load() < pages && rounds < 10 && !t.Failed(); rounds++ {
			if err := lateAtOnce(t, b, &at); err != nil {
				t.Error(err)
			}
			if _, err := b.pool.Exec(context.WithoutCancel(t.Context()), free(1)); err != nil {
				t.Error(err)
			}
			at.reaches(t, b) // and what came late before
		}
		var id string
		err := b.pool.QueryRow(context.WithoutCancel(t.Context()),
			`with p as (select tide.outbox_publish('orders', 'orders', '{}') as id)
			insert into ledger (event_id, n) select id, 0 from p returning event_id::text`).Scan(&id)
		if err != nil {
			t.Error(err)
		}
		last.Store(&id)
	}()
	got := readUntil(t, r, rand.New(rand.NewPCG(7, 7)), &at, func() string {
		if id := last.Load(); id != nil {
			return *id
		}
		return ""
	})
	<-done
	v := compare(t, b, got)
	t.Logf("%+v in %d pages, %d of them of drains", v, got.pages, got.drained)
	return v, got
}

func TestNothingIsLostDoubledInventedOrOutOfOrder(t *testing.T) {
	t.Parallel()
	for _, server := range []struct {
		major    int
		prepares bool
	}{
		{pgtest.Oldest, true}, {pgtest.Newest, true}, {pgtest.Newest, false},
	} {
		t.Run(fmt.Sprintf("PostgreSQL %d, prepares %t", server.major, server.prepares), func(t *testing.T) {
			t.Parallel()
			b := newOwnBus(t, server.major, server.prepares)
			v, got := trial(t, b, New(b.catalog, b.spec), 1)
			if v.lost+v.doubled+v.invented+v.disordered != 0 {
				t.Errorf("%+v", v)
			}
			if v.committed < 200 || got.drained == 0 {
				t.Errorf("the traffic was too thin to prove anything: %d events, %d pages of drains", v.committed, got.drained)
			}
		})
	}
}

// A reader that goes by ids alone must be found out, or the test above proves nothing.
func TestGoingByIDsAloneIsFoundToLoseEvents(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	r := New(b.catalog, b.spec)
	r.readPage = func(ctx context.Context, request catalog.PageRequest) (catalog.Page, error) {
		request.LateXIDs, request.Bound = nil, 0
		return b.catalog.ReadPage(ctx, request)
	}
	if v, _ := trial(t, b, r, 0); v.lost == 0 {
		t.Errorf("nothing was lost: %+v", v)
	}
}
