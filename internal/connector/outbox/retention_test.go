package outbox

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// keepEverythingOld makes every event older than its retention from the start,
// so that only what is not delivered holds it back.
func keepEverythingOld(t *testing.T, b bus) {
	t.Helper()
	schematest.Exec(t, b.pool, `select tide.outbox_set('orders', retention => '1 minute');
		alter table tide.outbox_event alter published_at set default clock_timestamp() - interval '1 hour'`)
}

// turns counts what became of the partitions.
type turns struct{ rotated, emptied int }

// turn rotates and empties partitions all the time, until ctx ends, as if
// hours passed between one time and the next.
func turn(ctx context.Context, t *testing.T, b bus) (done turns) {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return done
		case <-again.C:
		}
		// Errors are of the end, or of a server that a test has crashed; too few
		// turns make the test fail.
		if _, err := b.pool.Exec(ctx, `update tide.outbox_part
			set used_since = used_since - interval '1 hour', retired_at = retired_at - interval '1 hour'`); err != nil {
			continue
		}
		rows, err := b.pool.Query(ctx, `select action, coalesce(detail, '') from tide.maintain()`)
		if err != nil {
			continue
		}
		var action, detail string
		_, _ = pgx.ForEachRow(rows, []any{&action, &detail}, func() error {
			switch action {
			case "rotated":
				done.rotated++
			case "emptied":
				done.emptied++
			case "failed":
				t.Errorf("maintain failed: %s", detail)
			}
			return nil
		})
	}
}

// trialWhileTurning is trial with partitions that rotate and are emptied.
func trialWhileTurning(t *testing.T, b bus) (verdict, *readings, turns) {
	t.Helper()
	keepEverythingOld(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan turns)
	go func() { ended <- turn(ctx, t, b) }()
	v, got := trial(t, b, New(b.catalog, b.spec), 0)
	cancel()
	done := <-ended
	t.Logf("%d rotations, %d partitions emptied", done.rotated, done.emptied)
	return v, got, done
}

func TestRetentionRemovesNothingThatWasNotDelivered(t *testing.T) {
	t.Parallel()
	for _, server := range []struct {
		major    int
		prepares bool
	}{
		{pgtest.Oldest, true}, {pgtest.Newest, false},
	} {
		t.Run(fmt.Sprintf("PostgreSQL %d, prepares %t", server.major, server.prepares), func(t *testing.T) {
			t.Parallel()
			b := newOwnBus(t, server.major, server.prepares)
			v, got, done := trialWhileTurning(t, b)
			if v.lost+v.doubled+v.invented+v.disordered != 0 {
				t.Errorf("%+v", v)
			}
			if v.committed < 100 || got.pages < 10 || done.rotated < 3 || done.emptied < 1 {
				t.Errorf("too little happened to prove anything: %d events, %d pages, %+v", v.committed, got.pages, done)
			}
		})
	}
}

// Retention that does not ask what was delivered must be found out, or the
// test above proves nothing.
func TestRetentionByAgeAloneIsFoundToLoseEvents(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	schematest.Exec(t, b.pool, `create or replace function tide.pipeline_oldest(pipeline_id integer, parts integer[])
		returns timestamptz language sql stable as 'select null::timestamptz'`)
	if v, _, _ := trialWhileTurning(t, b); v.lost == 0 {
		t.Errorf("nothing was lost: %+v", v)
	}
}
