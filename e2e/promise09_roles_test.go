package e2e

import (
	"net/url"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// as is the DSN of another role, whose password is its name.
func as(t *testing.T, dsn, role string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, role)
	return u.String()
}

// The relays have no right but tide_relay: no superuser, no table of their own.
func TestPromise09OwnershipNeedsNoSuperuser(t *testing.T) {
	t.Parallel()
	f := newTraffic(t, extended(t), extended(t), startBroker(t).URL(), "")
	for _, s := range []*service{f.orders, f.payments} {
		s.script(t, `
			do $$ begin
				create role relay_alone login password 'relay_alone';
			exception when duplicate_object or unique_violation then null;
			end $$;
			grant tide_relay to relay_alone;`)
	}
	relays := map[*service]*relay{}
	for _, s := range []*service{f.orders, f.payments} {
		alone := &service{dsn: as(t, s.dsn, "relay_alone"), typed: s.typed, pool: s.pool}
		relays[s] = pairOn(t, alone)[0]
	}
	f.write(t, 2)
	for s, r := range relays {
		s.savedBy(t, "first", time.Time{})
		r.kill(t)
	}
	for s := range relays {
		s.savedBy(t, "second", time.Time{})
	}
	f.settled(t)
	for _, s := range relays {
		if s.logs("no right") {
			t.Errorf("a relay lacks a right:\n%s", s.log.String())
		}
	}
}

// Through a transaction pooler nothing that is kept in a session holds: no
// LISTEN, no advisory lock, no prepared statement. The relay sees that and polls.
func TestPromise09OwnershipHoldsThroughATransactionPooler(t *testing.T) {
	t.Parallel()
	f := newTraffic(t, extended(t), extended(t), startBroker(t).URL(), "")
	through := pgtest.Pooler(t, pgtest.Server(t, tutorialMajor))
	pairs := map[*service][2]*relay{}
	for _, s := range []*service{f.orders, f.payments} {
		pooled := &service{dsn: through(s.dsn), typed: s.typed, pool: s.pool}
		pairs[s] = pairOn(t, pooled)
	}
	f.orders.dsn = through(f.orders.dsn) // the writers' sessions
	f.write(t, 2)
	for s, pair := range pairs {
		s.savedBy(t, "first", time.Time{})
		if !pair[0].logs("goes through a pooler") {
			t.Errorf("the relay does not say that it polls:\n%s", pair[0].log.String())
		}
		pair[0].kill(t)
	}
	for s := range pairs {
		gap := s.savedBy(t, "second", time.Time{}).Sub(s.lastSave(t, "first"))
		t.Logf("take-over after %s", gap)
		if gap > 10*time.Second {
			t.Errorf("take-over after SIGKILL took %s, the promise is 10 s", gap)
		}
	}
	f.settled(t)
}
