package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// Publishing takes no lock that serialises commits, and notifies nobody while
// no relay sleeps. What it costs is measured by `pg-tide bench publish`.
func TestPromise10PublishingStaysCheap(t *testing.T) {
	t.Parallel()
	const writers = 16
	s := extended(t)
	s.execute(t, `select tide.outbox_create('order_events')`)
	listener := pgtest.Conn(t, s.dsn)
	if _, err := listener.Exec(t.Context(), "listen tide_outbox"); err != nil {
		t.Fatal(err)
	}
	f := &traffic{orders: s, stop: make(chan struct{})}
	t.Cleanup(f.halt)
	for range writers {
		f.writers.Go(func() {
			f.sessions(t.Context(), s.dsn+"&application_name=writer", func(conn *pgx.Conn) error {
				for range 50 {
					if _, err := conn.Exec(t.Context(), `select tide.outbox_publish('order_events', null, '{}'::jsonb)`); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	// Waits for a lock are looked for as long as the writers are at it. A row
	// or page is extended under a lock of the relation for a moment; what
	// serialises commits is a lock on a database object, a tuple or another's transaction.
	const waiting = `select count(*) from pg_locks l join pg_stat_activity a using (pid)
		where not l.granted and a.application_name = 'writer' and l.locktype in ('object', 'advisory', 'tuple', 'transactionid', 'relation')`
	looks := 0
	eventually(t, func() (bool, string) {
		looks++
		if n := one[int](t, s, waiting); n > 0 {
			t.Errorf("%d publishers wait for a lock", n)
		}
		return one[int](t, s, `select count(*) from tide.outbox_event`) > 5000, "5000 events are published"
	})
	f.halt()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if n, err := listener.WaitForNotification(ctx); err == nil {
		t.Errorf("publishers notified %q although no relay sleeps", n.Channel)
	}
	t.Logf("%d looks, and nobody waited for a lock", looks)
}
