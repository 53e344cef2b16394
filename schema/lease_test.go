package schema_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// claimed is what one claim gave.
type claimed struct {
	events []string
	ids    []int64
	token  *string
}

func claim(t testing.TB, conn *pgx.Conn, inbox string, most int, lease string) claimed {
	t.Helper()
	var c claimed
	const sql = `select coalesce(array_agg(event_id order by id), '{}'), coalesce(array_agg(id order by id), '{}'), min(lease_token::text)
		from tide.inbox_claim($1, 'w', $2, $3::interval)`
	if err := conn.QueryRow(t.Context(), sql, inbox, most, lease).Scan(&c.events, &c.ids, &c.token); err != nil {
		t.Fatal(err)
	}
	return c
}

// keyed gives the messages e1, e2 … of an inbox their keys.
func keyed(t testing.TB, conn *pgx.Conn, inbox string, keys ...any) {
	t.Helper()
	receive(t, conn, inbox, len(keys))
	for i, key := range keys {
		exec(t, conn, `update tide.`+pgx.Identifier{inbox + "_inbox"}.Sanitize()+` set key = $2 where event_id = 'e' || $1::int`, i+1, key)
	}
}

func wantEvents(t testing.TB, when string, got claimed, want string) {
	t.Helper()
	if strings.Join(got.events, " ") != want {
		t.Errorf("%s: claimed %q, want %q", when, got.events, want)
	}
}

func TestOfAKeyOneMessageIsInFlightAndTheNextFollowsIt(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.inbox_create('i'), tide.inbox_create('loose', ordered => false)`)
		keyed(t, conn, "i", "a", "a", "b", nil, nil, "a", "b")
		first := claim(t, conn, "i", 10, "1 hour")
		wantEvents(t, "at first", first, "e1 e3 e4 e5")
		wantEvents(t, "while they are in flight", claim(t, conn, "i", 10, "1 hour"), "")
		if got := value[string](t, conn, `select coalesce(string_agg(event_id, ' '), '') from tide.inbox_pending('i')`); got != "" {
			t.Errorf("pending beside leases: %s", got)
		}
		exec(t, conn, `select tide.inbox_complete('i', $1, $2)`, first.token, first.ids[:1])
		second := claim(t, conn, "i", 10, "1 hour")
		wantEvents(t, "when a's first is processed", second, "e2")
		if got := value[string](t, conn, `select concat_ws(' ', attempts, leased_by, processed_at is null) from tide.i_inbox where event_id = 'e2'`); got != "1 w t" {
			t.Errorf("the row says %s", got)
		}

		keyed(t, conn, "loose", "a", "a", "b", "a")
		wantEvents(t, "without order", claim(t, conn, "loose", 3, "1 hour"), "e1 e2 e3")
		wantEvents(t, "without order, the next", claim(t, conn, "loose", 3, "1 hour"), "e4")
	})
}

func TestAFailedOrReleasedMessageComesBeforeTheLaterOnesOfItsKey(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.inbox_create('i', max_attempts => 2)`)
	keyed(t, conn, "i", "a", "a", "b", "b", "c", "c")
	c := claim(t, conn, "i", 10, "1 hour")
	wantEvents(t, "at first", c, "e1 e3 e5")
	if n := value[int](t, conn, `select tide.inbox_fail('i', $1, $2, 'declined', '1 hour')`, c.token, c.ids[:1]); n != 0 {
		t.Errorf("%d became dead letters", n)
	}
	exec(t, conn, `select tide.inbox_release('i', $1, $2)`, c.token, c.ids[1:2])
	if n := value[int](t, conn, `select tide.inbox_fail('i', $1, $2, 'never', give_up => true)`, c.token, c.ids[2:]); n != 1 {
		t.Errorf("%d became dead letters, want 1", n)
	}
	got := column[string](t, conn, `select concat_ws(' ', event_id, attempts, dead_at is not null, last_error) from tide.i_inbox where event_id in ('e1', 'e3', 'e5') order by id`)
	if want := "e1 1 f declined|e3 0 f|e5 1 t never"; strings.Join(got, "|") != want {
		t.Errorf("the rows are %s, want %s", strings.Join(got, "|"), want)
	}
	c = claim(t, conn, "i", 10, "1 hour")
	wantEvents(t, "a waits, b is free, c has a dead letter", c, "e3 e6")
	exec(t, conn, `update tide.i_inbox set next_attempt_at = now() where event_id = 'e1'`)
	c = claim(t, conn, "i", 10, "1 hour")
	wantEvents(t, "when the pause is over", c, "e1")
	if n := value[int](t, conn, `select tide.inbox_fail('i', $1, $2, 'declined')`, c.token, c.ids); n != 1 {
		t.Errorf("%d became dead letters with the second of two attempts, want 1", n)
	}
	wantEvents(t, "after the dead letter", claim(t, conn, "i", 10, "1 hour"), "e2")
}

// The token is refused as soon as another has the message, and until then it
// is good, late or not.
func TestALostLeaseIsRefusedAndSaysWhoHasIt(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.inbox_create('i', max_attempts => 2)`)
	keyed(t, conn, "i", "a", "b")
	late := claim(t, conn, "i", 10, "1 microsecond")
	exec(t, conn, `select tide.inbox_complete('i', $1, $2)`, late.token, late.ids[1:])
	other := claim(t, conn, "i", 10, "1 microsecond")
	wantEvents(t, "when the lease ran out", other, "e1")
	for _, call := range []string{`inbox_complete('i', $1, $2)`, `inbox_extend('i', $1, $2)`, `inbox_release('i', $1, $2)`, `inbox_fail('i', $1, $2, 'x')`} {
		_, err := conn.Exec(t.Context(), `select tide.`+call, late.token, late.ids[:1])
		expectError(t, err, "TD001", "lost for one message", `worker "w" has it now`)
	}
	_, err := conn.Exec(t.Context(), `select tide.inbox_complete('i', $1, $2)`, late.token, late.ids)
	expectError(t, err, "lost for 2 messages")
	// One of two is lost: refused as a whole, and the other keeps its lease.
	exec(t, conn, `select tide.inbox_create('two')`)
	keyed(t, conn, "two", "a", "b")
	both := claim(t, conn, "two", 10, "1 hour")
	exec(t, conn, `select tide.inbox_mark_processed('two', $1::bigint)`, both.ids[0])
	for _, call := range []string{`inbox_extend('two', $1, $2, '2 hours')`, `inbox_complete('two', $1, $2)`} {
		_, err := conn.Exec(t.Context(), `select tide.`+call, both.token, both.ids)
		expectError(t, err, "TD001", "lost for one message", "it was processed at")
	}
	if n := value[int](t, conn, `select tide.inbox_complete('two', $1, $2)`, both.token, []int64{both.ids[1], both.ids[1]}); n != 1 {
		t.Errorf("%d completed, want 1", n)
	}
	if got := value[string](t, conn, `select last_error from tide.i_inbox where event_id = 'e1'`); !strings.Contains(got, `worker "w" had it until`) {
		t.Errorf("the row says %s", got)
	}
	// It was started twice, and that was all it may be.
	wantEvents(t, "when it has killed its workers", claim(t, conn, "i", 10, "1 hour"), "")
	if !value[bool](t, conn, `select dead_at is not null from tide.i_inbox where event_id = 'e1'`) {
		t.Error("it is no dead letter")
	}
	_, err = conn.Exec(t.Context(), `select tide.inbox_complete('i', $1, $2)`, other.token, other.ids)
	expectError(t, err, "TD001", "dead letter")
	if n := value[int](t, conn, `select tide.inbox_replay('i', $1)`, other.ids); n != 1 {
		t.Errorf("%d replayed", n)
	}
	again := claim(t, conn, "i", 10, "1 hour")
	wantEvents(t, "when it is replayed", again, "e1")
	exec(t, conn, `select tide.inbox_extend('i', $1, $2, '2 hours')`, again.token, again.ids)
	if !value[bool](t, conn, `select next_attempt_at > now() + interval '119 minutes' from tide.i_inbox where event_id = 'e1'`) {
		t.Error("the lease was not extended")
	}
}

// A message with a lower id becomes visible while the later one of its key is
// being claimed by a transaction that nobody sees yet. What the waiting claim
// takes beside it, it takes once.
func TestALateMessageWaitsForTheLeaseOfItsKeyThatItCannotSee(t *testing.T) {
	for name, end := range map[string]string{"commit": "e0", "rollback": "e0 e1"} {
		t.Run(name, func(t *testing.T) {
			conn := embedded(t, 0)
			exec(t, conn, `select tide.inbox_create('i')`)
			relay, worker := pgtest.Conn(t, conn.Config().ConnString()), pgtest.Conn(t, conn.Config().ConnString())
			const insert = `insert into tide.i_inbox (inbox_id, event_id, source, stream, key, op, event_type, payload)
				values ((select tide.inbox_id('i')), $1, '/x/orders', 'orders', $2, 'insert', 'orders.insert', '{}')`
			exec(t, relay, `begin`)
			exec(t, relay, insert, "e0", "other")
			exec(t, relay, insert, "e1", "k")
			exec(t, conn, insert, "e2", "k")
			exec(t, worker, `begin`)
			wantEvents(t, "the later one", claim(t, worker, "i", 10, "1 hour"), "e2")
			exec(t, relay, `commit`)
			got := make(chan []string, 1)
			pid := conn.PgConn().PID()
			go func() {
				var events []string
				_ = conn.QueryRow(t.Context(), `select coalesce(array_agg(event_id), '{}') from tide.inbox_claim('i', 'other')`).Scan(&events)
				got <- events
			}()
			waitsForLock(t, relay, pid)
			exec(t, worker, name)
			if events := <-got; strings.Join(events, " ") != end {
				t.Errorf("the other worker got %q, want %q", events, end)
			}
		})
	}
}

// waitsForLock returns when a session waits for another's lock.
func waitsForLock(t testing.TB, conn *pgx.Conn, pid uint32) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !value[bool](t, conn, `select cardinality(pg_blocking_pids($1::int)) > 0`, int32(pid)) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
}

func TestAClaimOfAHundredReadsAFewPagesOfALargeInbox(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.inbox_create('big')`)
		receive(t, conn, "big", 100_000)
		// A thousand of one key stand before the others.
		exec(t, conn, `update tide.big_inbox set key = 'hot' where id <= 1000`)
		for _, statistics := range []string{"none", "new"} {
			if statistics == "new" {
				exec(t, conn, `analyze tide.inbox_message`)
			}
			pages(t, conn, `select * from tide.inbox_claim('big', 'w', 100)`)
			if n := pages(t, conn, `select * from tide.inbox_claim('big', 'w', 100)`); n > 6000 {
				t.Errorf("%s statistics: %d pages are read", statistics, n)
			}
		}
		got := column[string](t, conn, `select event_id from tide.big_inbox where lease_token is not null order by id limit 3`)
		if strings.Join(got, " ") != "e1 e1001 e1002" {
			t.Errorf("the first claimed are %q", got)
		}
	})
}

// Nothing removes the entries of what is done from the indexes while an old
// snapshot is open. A message that became visible late is found nevertheless.
func TestAClaimUnderAnOldSnapshotDoesNotWalkOverWhatIsDone(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.inbox_create('i')`)
	receive(t, conn, "i", 45_000)
	late := value[int64](t, conn, `delete from tide.i_inbox where event_id = 'e1' returning id`)
	old := pgtest.Conn(t, conn.Config().ConnString())
	exec(t, old, `begin isolation level repeatable read; select from tide.inbox`)
	exec(t, conn, `do $$
		declare
			ids   bigint[];
			token uuid;
		begin
			for i in 1..40 loop
				select array_agg(id), min(lease_token::text) into ids, token from tide.inbox_claim('i', 'w', 1000);
				commit;
				perform tide.inbox_complete('i', token, ids);
				commit;
			end loop;
		end $$`)
	pages(t, conn, `select * from tide.inbox_claim('i', 'w', 1)`)
	if n := pages(t, conn, `select * from tide.inbox_claim('i', 'w', 1)`); n > 500 {
		t.Errorf("%d pages are read", n)
	}
	exec(t, conn, `insert into tide.i_inbox (inbox_id, id, event_id, source, stream, op, event_type, payload)
		values ((select tide.inbox_id('i')), $1, 'late', '/x/orders', 'orders', 'insert', 'orders.insert', '{}')`, late)
	deadline := time.Now().Add(20 * time.Second)
	for strings.Join(claim(t, conn, "i", 1, "1 hour").events, " ") != "late" {
		if time.Now().After(deadline) {
			t.Fatal("a message with a lower id was not found")
		}
	}
}

// A worker completes late, in a transaction that is still open, what it has a
// lease on that ran out. Others get the rest meanwhile.
func TestALateCompletionKeepsNothingElseFromOthers(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.inbox_create('i')`)
	keyed(t, conn, "i", "a", "b")
	worker := pgtest.Conn(t, conn.Config().ConnString())
	late := claim(t, worker, "i", 1, "1 microsecond")
	exec(t, worker, `begin`)
	exec(t, worker, `select tide.inbox_complete('i', $1, $2)`, late.token, late.ids)
	wantEvents(t, "meanwhile", claim(t, conn, "i", 10, "1 hour"), "e2")
	exec(t, worker, `commit`)
	wantEvents(t, "afterwards", claim(t, conn, "i", 10, "1 hour"), "")
}
