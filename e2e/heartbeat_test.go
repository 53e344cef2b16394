package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// Every connection of the relay's pool waits for a lock, for longer than the
// lease: heartbeats have a connection of their own, and it keeps its pipelines.
func TestARelayWhoseConnectionsAreAllBusyKeepsItsPipelines(t *testing.T) {
	t.Parallel()
	through := map[string]func(*testing.T) func(string) string{
		"direct": func(*testing.T) func(string) string { return func(dsn string) string { return dsn } },
		"through a transaction pooler": func(t *testing.T) func(string) string {
			return pgtest.Pooler(t, pgtest.Server(t, tutorialMajor))
		},
	}
	for name, way := range through {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			busyRelay(t, way(t))
		})
	}
}

func busyRelay(t *testing.T, through func(dsn string) string) {
	t.Helper()
	const (
		pool  = 8
		lease = 7 * time.Second
	)
	s, broker := extended(t), startBroker(t)
	s.addLoops(t, broker.URL())
	r := startRelay(t, through(named(t, s.dsn, "busy")))
	s.awaitAllRunning(t)
	const owned = `select string_agg(pipeline_id || ':' || fence, ' ' order by pipeline_id) from tide.pipeline_owner where relay_id is not null`
	before := one[string](t, s, owned)

	// Who has delivered wants to save, and cannot.
	s.execute(t, `begin`)
	s.execute(t, `lock table tide.pipeline_position in access exclusive mode`)
	for i := range loops {
		if _, err := s.pool.Exec(t.Context(), `select tide.outbox_publish($1, null, '{}')`, fmt.Sprintf("o%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() (bool, string) {
		waiting := one[int](t, s, `select count(*) from pg_stat_activity
			where application_name = 'busy' and datname = current_database() and wait_event_type = 'Lock'`)
		return waiting >= pool, fmt.Sprintf("%d of %d connections wait for the lock", waiting, pool)
	})
	held := time.NewTimer(lease + lease/2)
	defer held.Stop()
	select {
	case <-held.C:
	case <-r.exited:
		t.Fatal("the relay ended")
	}
	s.execute(t, `rollback`)
	eventually(t, func() (bool, string) {
		got := one[int](t, s, `select count(*) from tide.inbox_message`)
		return got == loops, fmt.Sprintf("%d of %d events went round; status: %s", got, loops, s.status(t))
	})
	if after := one[string](t, s, owned); after != before {
		t.Errorf("pipelines with their fences before: %s; after: %s", before, after)
	}
	if strings.Contains(r.log.String(), "pipelines dropped") {
		t.Error("the relay dropped its pipelines")
	}
}
