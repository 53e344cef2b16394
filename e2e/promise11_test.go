package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

var fetchesAgain = regexp.MustCompile(`(fetching them again)`)

// The machine is lost, and last night's backup takes its place. What the inbox
// had acknowledged since then comes again.
func TestPromise11ABaseBackupTakesTheOriginalsPlace(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, nil, "pg_basebackup")
	relays := r.startRelays(t)
	r.publish(t, 20)
	r.arrive(t)
	dir := r.backup(t)
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	for _, one := range relays {
		one.kill(t)
	}
	if err := r.server.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.at(t, r.successor(t, nil, move(dir)))
	relays = r.startRelays(t)
	relays[1].log.await(t, fetchesAgain)
	r.arrive(t)
	r.publish(t, 10)
	r.arrive(t)
}

// The copy is started beside the original, with its configuration: it must not
// take messages away from it.
func TestPromise11ABaseBackupBesideTheOriginalStops(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, nil, "pg_basebackup")
	r.startRelays(t)
	r.publish(t, 20)
	r.arrive(t)
	clone := r.successor(t, nil, move(r.backup(t)))
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	copied := &service{dsn: clone.DSN("payments"), pool: pgtest.Pool(t, clone.DSN("payments"))}
	startRelay(t, copied.dsn, "--http-addr", "127.0.0.1:0")
	copied.stopped(t, paymentsIn)
	r.publish(t, 20)
	r.arrive(t)
	copied.stopped(t, paymentsIn)
}

// Somebody deleted a table, and the cluster is restored to the minute before.
func TestPromise11ARestoreToAPointInTime(t *testing.T) {
	t.Parallel()
	archive := reachable(t)
	r := newRestorable(t, map[string]string{"archive_mode": "on", "archive_command": "cp %p " + archive + "/%f"}, "pg_basebackup")
	relays := r.startRelays(t)
	r.publish(t, 10)
	r.arrive(t)
	dir := r.backup(t)
	r.publish(t, 10)
	r.arrive(t)
	r.orders.run(t, `select pg_create_restore_point('before')`)
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	r.orders.run(t, `select pg_switch_wal()`)
	for _, one := range relays {
		one.kill(t)
	}
	if err := r.server.Stop(t.Context()); err != nil { // archives the rest
		t.Fatal(err)
	}
	next := r.successor(t, map[string]string{
		"archive_mode": "off", "restore_command": "cp " + archive + "/%f %p",
		"recovery_target_name": "before", "recovery_target_action": "promote",
	}, func(next *throwaway.Server) error {
		if err := move(dir)(next); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(next.DataDir, "recovery.signal"), nil, 0o600)
	})
	r.at(t, next)
	awaitPrimary(t, r.orders)
	relays = r.startRelays(t)
	relays[1].log.await(t, fetchesAgain)
	relays[0].log.await(t, regexp.MustCompile(`(its log is on timeline 2 after 1)`))
	r.arrive(t)
	r.publish(t, 10)
	r.arrive(t)
}

// The primary dies and a standby that had not received everything is promoted;
// the relays live on and find it by the other name in their URL.
func TestPromise11AStandbyThatLaggedIsPromoted(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, nil, "pg_basebackup")
	dir := r.backup(t, "--write-recovery-conf")
	standby := r.successor(t, nil, move(dir))
	primary := r.server
	for _, s := range []*service{r.orders, r.payments} {
		s.dsn = eitherServer(t, s.dsn, standby)
		s.pool = pgtest.Pool(t, s.dsn)
	}
	relays := r.startRelays(t)
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	lag(t, r, standby)
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	if err := primary.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := pgtest.Conn(t, standby.DSN("postgres")).Exec(t.Context(), `select pg_promote()`); err != nil {
		t.Fatal(err)
	}
	r.at(t, standby)
	awaitPrimary(t, r.orders)
	relays[1].log.await(t, fetchesAgain)
	r.arrive(t)
	// New events get the ids of those that were lost.
	r.publish(t, 20)
	r.arrive(t)
}

// lag waits until the standby has everything, and stops its receiver.
func lag(t *testing.T, r *restorable, standby *throwaway.Server) {
	t.Helper()
	behind := &service{dsn: standby.DSN("postgres"), pool: pgtest.Pool(t, standby.DSN("postgres"))}
	at := one[string](t, r.orders, `select pg_current_wal_flush_lsn()::text`)
	eventually(t, func() (bool, string) {
		return one[bool](t, behind, `select pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, at), "the standby has replayed " + at
	})
	behind.run(t, `alter system set primary_conninfo = ''`)
	behind.run(t, `select pg_reload_conf()`)
	eventually(t, func() (bool, string) {
		return !one[bool](t, behind, `select exists (select from pg_stat_wal_receiver)`), "the standby receives nothing"
	})
}

// A dump is loaded into another cluster. Nobody can tell whether it takes the
// original's place, so the relay asks.
func TestPromise11ADumpIsReloaded(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, nil, "pg_dump", "pg_restore")
	relays := r.startRelays(t)
	r.publish(t, 20)
	r.arrive(t)
	var dumps []string
	for _, s := range []*service{r.orders, r.payments} {
		file := filepath.Join(t.TempDir(), "dump")
		dump(t, r.server, s.dsn, file)
		dumps = append(dumps, file)
	}
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	for _, one := range relays {
		one.kill(t)
	}
	next := pgtest.Own(t, throwaway.Options{Major: r.server.Major, OwnIdentity: true})
	admin := pgtest.Conn(t, next.DSN("postgres"))
	for i, name := range []string{"orders", "payments"} {
		if _, err := admin.Exec(t.Context(), "create database "+name); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // the roles, which a dump of a database has not
			if out, err := newCommand(t, "install", "--postgres-url", next.DSN("postgres")).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		restore(t, next, next.DSN(name), dumps[i])
	}
	r.at(t, next)
	relays = r.startRelays(t)
	r.publish(t, 10) // what the copy's applications publish waits
	r.adoptBoth(t)
	relays[1].log.await(t, fetchesAgain)
	r.arrive(t)
}

// adoptBoth waits until both pipelines have stopped, and says the word.
func (r *restorable) adoptBoth(t *testing.T) {
	t.Helper()
	r.orders.stopped(t, ordersOut)
	r.payments.stopped(t, paymentsIn)
	for _, s := range []*service{r.orders, r.payments} {
		if out := s.adopt(t, "--all"); !strings.Contains(out, "1 pipeline runs in this database from now on") {
			t.Errorf("adopting says %q", out)
		}
	}
}

// A copy for tests is made of a database that goes on working: it publishes
// nothing in the original's name.
func TestPromise11ADatabaseIsMadeFromATemplate(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, nil)
	relays := r.startRelays(t)
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	relays[0].kill(t)
	copied := r.copyOrders(t)
	startRelay(t, r.orders.dsn, "--http-addr", "127.0.0.1:0")
	startRelay(t, copied.dsn, "--http-addr", "127.0.0.1:0")
	copied.stopped(t, ordersOut)
	copied.run(t, `select tide.outbox_publish('order_events', 'orders', '{"n": -1}')`)
	r.publish(t, 20)
	r.arrive(t)
	copied.stopped(t, ordersOut)
	copied.adopt(t, ordersOut)
	copied.awaitStatus(t, ordersOut, "r.state = 'running' and r.lag_events = 0")
	eventually(t, func() (bool, string) {
		got := r.taken(t)
		return got[len(got)-1] == -1 && len(got) == 41, fmt.Sprint(got)
	})
}

// A server that was killed does not start any more, and its log is reset: what
// was not in its files is gone, and transactions get the same numbers again.
func TestPromise11TheLogIsReset(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, map[string]string{"bgwriter_lru_maxpages": "0"}, "pg_resetwal")
	relays := r.startRelays(t)
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	r.orders.run(t, `checkpoint`)
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	for _, one := range relays {
		one.kill(t)
	}
	if err := r.server.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.server.DataDir, "postmaster.pid")); err != nil {
		t.Fatal(err)
	}
	r.tool(t, "pg_resetwal", "--force", r.server.DataDir)
	if err := r.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.at(t, r.server)
	relays = r.startRelays(t)
	relays[1].log.await(t, fetchesAgain)
	r.arrive(t)
	r.publish(t, 20)
	r.arrive(t)
}

// Somebody sets the next transaction's number far below those that the saved
// position knows.
func TestPromise11TransactionNumbersGoBack(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, nil, "pg_resetwal")
	relays := r.startRelays(t)
	r.orders.run(t, `do $$ begin for i in 1..5000 loop perform pg_current_xact_id(); commit; end loop; end $$`)
	r.publish(t, 20)
	r.arrive(t)
	r.acknowledged(t)
	for _, one := range relays {
		one.stop(t)
	}
	// Rows of frozen tables are seen whatever their transaction's number.
	for _, name := range []string{"orders", "payments", "postgres", "template1"} {
		if _, err := pgtest.Conn(t, r.server.DSN(name)).Exec(t.Context(), `vacuum (freeze)`); err != nil {
			t.Fatal(err)
		}
	}
	bound := one[string](t, r.orders, `select (max(bound::text::bigint) - 4500)::text from tide.pipeline_position`)
	if err := r.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.tool(t, "pg_resetwal", "--next-transaction-id="+bound, r.server.DataDir)
	if err := r.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.at(t, r.server)
	if back := one[bool](t, r.orders, `select pg_snapshot_xmax(pg_current_snapshot()) < max(bound::text::bigint)::text::xid8 from tide.pipeline_position`); !back {
		t.Fatal("the numbers did not go back")
	}
	r.startRelays(t)
	r.publish(t, 20)
	r.arrive(t)
}

// A major upgrade keeps transactions' numbers and makes another cluster. One
// major may be upgraded to itself, which takes the same way.
func TestPromise11TheClusterIsUpgraded(t *testing.T) {
	t.Parallel()
	r := newRestorable(t, nil, "pg_upgrade", "pg_dumpall", "pg_resetwal")
	relays := r.startRelays(t)
	r.publish(t, 20)
	r.arrive(t)
	for _, one := range relays {
		one.stop(t)
	}
	r.publish(t, 10) // waits in the outbox throughout
	if err := r.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.at(t, r.successor(t, nil, func(next *throwaway.Server) error {
		if err := next.InitDB(t.Context()); err != nil {
			return err
		}
		r.tool(t, "pg_upgrade", "-b", r.server.BinDir, "-B", r.server.BinDir, "-d", r.server.DataDir, "-D", next.DataDir,
			"-U", "postgres", "-s", next.SocketDir, "-O", "-c fsync=off", "-o", "-c fsync=off")
		return nil
	}))
	r.startRelays(t)
	r.publish(t, 10)
	r.adoptBoth(t)
	r.arrive(t)
}

// awaitPrimary waits until a server takes writes.
func awaitPrimary(t *testing.T, s *service) {
	t.Helper()
	eventually(t, func() (bool, string) {
		var standby bool
		err := s.pool.QueryRow(t.Context(), `select pg_is_in_recovery()`).Scan(&standby)
		return err == nil && !standby, fmt.Sprint("the server takes writes: ", err)
	})
}

func dump(t *testing.T, server *throwaway.Server, dsn, file string) {
	t.Helper()
	client(t, "pg_dump", server.Major, "--format=custom", "--file="+file, "--dbname="+dsn)
}

func restore(t *testing.T, server *throwaway.Server, dsn, file string) {
	t.Helper()
	client(t, "pg_restore", server.Major, "--exit-on-error", "--dbname="+dsn, file)
}
