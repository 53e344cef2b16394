package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// Publishing takes no lock that serialises commits, and notifies nobody while
// no relay sleeps. What it costs is measured by `pg-tide bench publish`.
func TestPromise10PublishingStaysCheap(t *testing.T) {
	t.Parallel()
	s := extended(t)
	s.execute(t, `select tide.outbox_create('order_events')`)
	listener := listenerOf(t, s)
	f := publishInALoop(t, s, 16)
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
	listener.heardNothing(t, "publishers notified %q although no relay sleeps")
	t.Logf("%d looks, and nobody waited for a lock", looks)
}

// A relay that sleeps is what publishers notify. One that is killed in its
// sleep sleeps no more: nobody goes on to notify it.
func TestPromise10PublishingStaysCheapWhenASleepingRelayIsKilled(t *testing.T) {
	t.Parallel()
	f := newTraffic(t, extended(t), extended(t), startBroker(t).URL(), "")
	r := startRelay(t, f.orders.dsn)
	asleep := func() bool {
		return one[int](t, f.orders, `select count(*) from pg_locks where locktype = 'advisory' and classid = 1953063013
			and mode = 'ExclusiveLock' and granted and database = (select oid from pg_database where datname = current_database())`) > 0
	}
	eventually(t, func() (bool, string) { return asleep(), "the relay sleeps" })
	listener := listenerOf(t, f.orders)
	f.orders.execute(t, `select tide.outbox_publish('order_events', '{}'::jsonb)`)
	if n, err := listener.WaitForNotification(t.Context()); err != nil || n.Payload != "order_events" {
		t.Fatalf("heard %+v, %v when a relay slept", n, err)
	}
	f.orders.awaitStatus(t, ordersPipeline, `r.lag_events = 0`)
	eventually(t, func() (bool, string) { return asleep(), "the relay sleeps again" })
	r.kill(t)
	eventually(t, func() (bool, string) { return !asleep(), "its lock is gone" })
	writers := publishInALoop(t, f.orders, 16)
	eventually(t, func() (bool, string) {
		return one[int](t, f.orders, `select count(*) from tide.outbox_event`) > 2000, "2000 events are published"
	})
	writers.halt()
	listener.heardNothing(t, "publishers notified %q although the relay is dead")
}

// listener hears what publishers say to relays that sleep.
type listener struct{ *pgx.Conn }

func listenerOf(t *testing.T, s *service) listener {
	t.Helper()
	conn := pgtest.Conn(t, s.dsn)
	if _, err := conn.Exec(t.Context(), "listen tide_outbox; listen finished"); err != nil {
		t.Fatal(err)
	}
	return listener{conn}
}

// heardNothing says so when something was notified before now.
func (l listener) heardNothing(t *testing.T, format string) {
	t.Helper()
	if _, err := l.Exec(t.Context(), "notify finished"); err != nil {
		t.Fatal(err)
	}
	n, err := l.WaitForNotification(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n.Channel != "finished" {
		t.Errorf(format, n.Channel)
	}
}

// publishInALoop has writers publish until the traffic is halted.
func publishInALoop(t *testing.T, s *service, writers int) *traffic {
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
	return f
}
