package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// No transaction is open while the relay waits for anything outside
// PostgreSQL: looked at throughout, while the broker hangs, is gone, and comes
// back in the midst of traffic.
func TestPromise08NoTransactionOpenWhileWaiting(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	f := newTraffic(t, extended(t), extended(t), broker.URL(), "")
	startRelay(t, named(t, f.orders.dsn, "watched"))
	startRelay(t, named(t, f.payments.dsn, "watched"))
	f.write(t, 3)
	f.awaitMore(t, 50)
	watches := []*watch{startWatch(t, f.orders), startWatch(t, f.payments)}

	// longer than the broker may take to acknowledge anything
	broker.server.Freeze(t)
	f.pause(12 * time.Second)
	broker.server.Thaw(t)
	f.awaitMore(t, 50)
	broker.Kill(t)
	f.orders.awaitStatus(t, ordersPipeline, `r.state = 'waiting'`)
	f.payments.awaitStatus(t, paymentsPipeline, `r.state = 'waiting'`)
	f.pause(2 * time.Second)
	broker.Start(t)
	f.awaitMore(t, 50)
	for _, w := range watches {
		w.end()
		t.Logf("%d looks: the oldest transaction of the relay was %s old: %s", w.looks, w.oldest, w.doing)
		if w.looks < 100 {
			t.Errorf("only %d looks", w.looks)
		}
		if w.idle > 0 {
			t.Errorf("%d times the relay was idle in a transaction", w.idle)
		}
		// One statement at work takes its time on a busy machine; the broker
		// was away for more than twice as long.
		if w.oldest > 5*time.Second {
			t.Errorf("a transaction of the relay was open for %s", w.oldest)
		}
	}
	f.settled(t)
}

// watch looks at the relay's sessions again and again.
type watch struct {
	stop        context.CancelFunc
	done        sync.WaitGroup
	looks, idle int
	oldest      time.Duration
	// doing is what the oldest transaction was at.
	doing string
}

func startWatch(t *testing.T, s *service) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{stop: cancel}
	conn := pgtest.Conn(t, s.dsn)
	// A session that is idle has no transaction of the relay. The server runs one
	// of its own there to catch up with invalidations, and gives it the time of
	// the last statement.
	w.done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var idle int
			var oldest float64
			var doing string
			err := conn.QueryRow(ctx, `
				select count(*) filter (where a.state like 'idle in transaction%'),
				       coalesce(max(extract(epoch from clock_timestamp() - a.xact_start)) filter (where a.state <> 'idle'), 0)::float8,
				       coalesce((array_agg(concat_ws(' ', a.state, a.wait_event_type, a.wait_event,
				           (select array_agg(b.application_name || ': ' || b.state || ' ' || left(b.query, 300))
				            from pg_stat_activity b where b.pid = any(pg_blocking_pids(a.pid))), a.query)
				           order by a.xact_start))[1], '')
				from pg_stat_activity a
				where a.application_name = 'watched' and a.datname = current_database()`).Scan(&idle, &oldest, &doing)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Errorf("look at the relay's sessions: %v", err)
				return
			}
			w.looks++
			w.idle += idle
			if age := time.Duration(oldest * float64(time.Second)); age > w.oldest {
				w.oldest, w.doing = age, doing
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(w.end)
	return w
}

func (w *watch) end() {
	w.stop()
	w.done.Wait()
}
