package schema_test

import (
	"context"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

// waited is what the server logs when a lock was waited for longer than
// deadlock_timeout: by whom, for what, and how many milliseconds.
var waited = regexp.MustCompile(`process (\d+) acquired (\w+) on relation \d+ of database \d+ after ([0-9.]+) ms`)

// The server itself says how long each wait for a lock was (log_lock_waits), so
// that a busy machine is not taken for a lock. Retention here is of a second,
// and a stranger's snapshot is open throughout.
func TestPublishersDoNotWaitForRetention(t *testing.T) {
	pgtest.Each(t, oldAndNew, func(t *testing.T, major int) {
		server := pgtest.Own(t, throwaway.Options{Major: major, Settings: map[string]string{
			"log_lock_waits": "on", "deadlock_timeout": "5ms", "log_line_prefix": ""}})
		dsn := server.DSN("postgres")
		if err := withConn(t.Context(), dsn, schema.Install); err != nil {
			t.Fatal(err)
		}
		conn := pgtest.Conn(t, dsn)
		exec(t, conn, `select tide.outbox_create('o', '1 minute'); create table elsewhere (n int);
			alter table tide.outbox_event alter published_at set default clock_timestamp() - interval '59 seconds'`)
		stranger := pgtest.Conn(t, dsn)
		exec(t, stranger, `begin isolation level repeatable read; insert into elsewhere values (1)`)

		ctx, stop := context.WithCancel(t.Context())
		var published atomic.Int64
		var publishers sync.WaitGroup
		pids := make([]int, 16)
		for i := range pids {
			session := pgtest.Conn(t, dsn)
			pids[i] = int(session.PgConn().PID())
			publishers.Go(func() { publishUntil(ctx, t, session, &published) })
		}
		done := turnPartitions(t, conn, 4*time.Second)
		stop()
		publishers.Wait()
		exec(t, stranger, `rollback`)
		longest := longestWait(t, server.Log, pids)
		t.Logf("%d events published, %v, longest wait for a partition %v", published.Load(), done, longest)
		if longest > 50*time.Millisecond {
			t.Errorf("a publisher waited %v for a partition", longest)
		}
		if published.Load() < 200 || done["rotated"] < 3 || done["emptied"] < 3 {
			t.Error("too little happened to prove anything")
		}
		if wait := longestWait(t, server.Log, []int{waitForALock(t, dsn)}); wait == 0 {
			t.Error("a wait that was made on purpose is not found in the log")
		}
	})
}

// waitForALock lets a session wait for a lock and returns its process.
func waitForALock(t *testing.T, dsn string) (pid int) {
	t.Helper()
	holder, waiter := pgtest.Conn(t, dsn), pgtest.Conn(t, dsn)
	exec(t, holder, `begin; lock table elsewhere in share mode`)
	ended := make(chan error)
	go func() {
		_, err := waiter.Exec(t.Context(), `insert into elsewhere values (2)`)
		ended <- err
	}()
	exec(t, holder, `do $$ begin
		while not exists (select from pg_locks where relation = 'elsewhere'::regclass and not granted) loop perform pg_sleep(0.01); end loop;
		perform pg_sleep(0.1);
	end $$`)
	exec(t, holder, `commit`)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return int(waiter.PgConn().PID())
}

// publishUntil publishes with a prepared statement, in transactions of one or
// more events.
func publishUntil(ctx context.Context, t *testing.T, session *pgx.Conn, published *atomic.Int64) {
	for ctx.Err() == nil {
		err := pgx.BeginFunc(t.Context(), session, func(tx pgx.Tx) error {
			for range 1 + published.Load()%3 {
				if _, err := tx.Exec(t.Context(), `select tide.outbox_publish('o', '{}'::jsonb)`); err != nil {
					return err
				}
				published.Add(1)
			}
			return nil
		})
		if err != nil {
			t.Errorf("publish: %v", err)
			return
		}
	}
}

// turnPartitions maintains all the time, as if a partition were old at once and
// retired for its retention after a second.
func turnPartitions(t *testing.T, conn *pgx.Conn, long time.Duration) map[string]int {
	done := map[string]int{}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for until := time.Now().Add(long); time.Now().Before(until) || done["emptied"] < 3; {
		<-again.C
		exec(t, conn, `update tide.outbox_part set used_since = used_since - interval '1 hour'`)
		exec(t, conn, `update tide.outbox_part set retired_at = retired_at - interval '1 hour' where retired_at between now() - interval '30 minutes' and now() - interval '1 second'`)
		for _, s := range maintain(t, conn) {
			done[s.Action]++
			if s.Action == "failed" {
				t.Errorf("maintain: %+v", s)
			}
		}
	}
	return done
}

func longestWait(t *testing.T, log string, pids []int) (longest time.Duration) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, pid := range pids {
		ours[strconv.Itoa(pid)] = true
	}
	for _, found := range waited.FindAllStringSubmatch(string(text), -1) {
		if !ours[found[1]] {
			continue
		}
		wait, err := time.ParseDuration(found[3] + "ms")
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, wait)
	}
	return longest
}
