package catalog

import (
	"sync"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// busy lets every connection of the catalog's pool wait for a lock, until the
// returned function is called.
func busy(t *testing.T, dsn string, c *Catalog) (release func()) {
	t.Helper()
	conn := pgtest.Conn(t, dsn)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table tide.pipeline_position in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	for range c.pool.Config().MaxConns {
		waiting.Go(func() {
			if _, err := c.pool.Exec(t.Context(), "select count(*) from tide.pipeline_position"); err != nil {
				t.Errorf("a statement that waited for the lock: %v", err)
			}
		})
	}
	eventually(t, "all connections are busy", func() bool {
		return c.pool.Stat().AcquiredConns() == c.pool.Config().MaxConns
	})
	return func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
		waiting.Wait()
	}
}

func TestAHeartbeatDoesNotWaitForThePool(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1")
	c := open(t, dsn, relayA)
	release := busy(t, dsn, c)
	defer release()
	for range 3 {
		if names, _ := heartbeat(t, c); len(names) != 1 {
			t.Errorf("the relay owns %v", names)
		}
	}
	if err := c.Registry().Leave(t.Context()); err != nil {
		t.Errorf("leave: %v", err)
	}
	var left int
	schematest.Query(t, pool, `select count(*) from tide.pipeline_owner where relay_id is not null`, nil, &left)
	if left != 0 {
		t.Errorf("%d pipelines are still owned", left)
	}
}

func TestAHeartbeatFindsItsConnectionBrokenAndTakesAnother(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1")
	c := open(t, dsn, relayA)
	_, before := heartbeat(t, c)
	var ended int
	schematest.Query(t, pool, `
		select count(pg_terminate_backend(pid)) from pg_stat_activity
		where datname = current_database() and application_name = $1`, []any{applicationName}, &ended)
	if ended == 0 {
		t.Fatal("the relay had no connection")
	}
	_, after := heartbeat(t, c)
	if len(after) != 1 || after[0].Fence != before[0].Fence {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// A server that answers nothing must not take the place of the next attempt.
func TestAHeartbeatThatHangsHindersNoLaterOne(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1")
	c := open(t, dsn, relayA)
	heartbeat(t, c)
	conn := pgtest.Conn(t, dsn)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table tide.relay_instance in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := c.Registry().Heartbeat(t.Context()); err == nil {
		t.Error("a heartbeat got through a lock")
	}
	if took := time.Since(begun); took < heartbeatTimeout {
		t.Errorf("it gave up after %s", took)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, _ := heartbeat(t, c); len(names) != 1 {
		t.Errorf("the relay owns %v", names)
	}
}
