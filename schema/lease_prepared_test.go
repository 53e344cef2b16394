package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// worksOne claims a message, extends and completes it.
func worksOne(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var id int64
	var token string
	if err := conn.QueryRow(t.Context(), `select id, lease_token::text from tide.inbox_claim('i', 'w', 1)`).Scan(&id, &token); err != nil {
		t.Fatalf("claim: %v", err)
	}
	exec(t, conn, `select tide.inbox_extend('i', $1::text::uuid, array[$2::bigint], '90 minutes')`, token, id)
	if n := value[int](t, conn, `select count(*) from tide.i_inbox where id = $1
		and next_attempt_at - clock_timestamp() between interval '85 minutes' and interval '90 minutes'`, id); n != 1 {
		t.Error("the lease does not last for what was asked")
	}
	exec(t, conn, `select tide.inbox_complete('i', $1::text::uuid, array[$2::bigint])`, token, id)
}

// A worker's claims run with the schema owner's rights, from statements that
// the session keeps, which it might have put there itself.
func TestAClaimRunsNoStatementThatSomebodyElsePrepared(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.inbox_create('i')`)
		receive(t, conn, "i", 10)
		exec(t, conn, `create schema evil`)
		exec(t, conn, `create function evil.clock_timestamp() returns timestamptz language plpgsql as $$ begin raise exception 'evil runs as %', current_user; end $$`)
		exec(t, conn, `create type evil.uuid as (x int); create type evil.text as (x int)`)
		exec(t, conn, `grant usage on schema evil to public`)
		exec(t, conn, `set role tide_consumer`)
		worksOne(t, conn)
		ours := column[string](t, conn, `select name || ' ' || statement from pg_prepared_statements where name like 'tide\_%' order by name`)
		if len(ours) != 6 {
			t.Fatalf("%d statements are kept, want those of the claim, the extension and the completion: %v", len(ours), ours)
		}
		for what, prepare := range map[string]func(name, statement string) string{
			"another text":          func(name, _ string) string { return "prepare " + name + " as select 1/0" },
			"one more column":       func(_, statement string) string { return statement + " -- evil" },
			"another search_path":   func(_, statement string) string { return statement },
			"nothing, deallocating": func(string, string) string { return "select 1" },
		} {
			exec(t, conn, `set search_path = evil, pg_catalog`)
			for _, one := range ours {
				name, statement, _ := strings.Cut(one, " ")
				exec(t, conn, "deallocate "+name)
				exec(t, conn, prepare(name, statement), pgx.QueryExecModeSimpleProtocol)
			}
			exec(t, conn, `reset search_path`)
			t.Run(what, func(t *testing.T) { worksOne(t, conn) })
			now := column[string](t, conn, `select name || ' ' || statement from pg_prepared_statements where name like 'tide\_%' order by name`)
			if fmt.Sprint(now) != fmt.Sprint(ours) {
				t.Errorf("%s: the statements are %v, want %v", what, now, ours)
			}
		}
	})
}

// Whatever a session's settings make of times, a claim and a lease mean the same.
func TestALeaseIsTheSameInAnyStyleOfTimes(t *testing.T) {
	// IST is India's time and is read as Israel's by older versions.
	const india, brazil = `set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata'; set intervalstyle = 'sql_standard'`,
		`set datestyle = 'German'; set timezone = 'America/Sao_Paulo'; set intervalstyle = 'iso_8601'`
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		for _, settings := range []string{india, brazil} {
			conn := embedded(t, major)
			exec(t, conn, `select tide.inbox_create('i')`)
			receive(t, conn, "i", 3)
			exec(t, conn, settings, pgx.QueryExecModeSimpleProtocol)
			worksOne(t, conn)
			token := value[string](t, conn, `select lease_token::text from tide.inbox_claim('i', 'w', 1)`)
			exec(t, conn, `select tide.inbox_release('i', $1::text::uuid, array[2], '1 hour')`, token)
			// without the session's note of where the last claim began to look
			exec(t, conn, `select set_config('tide.inbox_' || tide.inbox_id('i'), '', false)`)
			if got := column[int](t, conn, `select id from tide.inbox_claim('i', 'w', 10)`); len(got) != 1 || got[0] != 3 {
				t.Errorf("%s: %v are given out while 2 waits for an hour, want 3", settings, got)
			}
			exec(t, conn, `update tide.i_inbox set next_attempt_at = clock_timestamp() where id = 2`)
			if got := column[int](t, conn, `select id from tide.inbox_claim('i', 'w', 10)`); len(got) != 1 || got[0] != 2 {
				t.Errorf("%s: %v are given out although 2 is due", settings, got)
			}
		}
	})
}

// Nor does a worker read the inbox whole, as statistics of a time when it was
// small would have it.
func TestWorkingAnInboxReadsNoPartOfItWhole(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.inbox_create('i')`)
		receive(t, conn, "i", 20)
		exec(t, conn, `analyze`)
		exec(t, conn, `begin`)
		const scans = `select sum(seq_scan) from pg_stat_xact_all_tables where schemaname = 'tide' and relname like 'inbox\_message%'`
		before := value[int](t, conn, scans) // what was not reported yet counts as well
		exec(t, conn, `select tide.inbox_complete('i', lease_token, array_agg(id)) from tide.inbox_claim('i', 'w', 5) group by lease_token`)
		exec(t, conn, `select tide.inbox_mark_processed('i', 10::bigint), tide.inbox_mark_processed('i', array[11, 12]::bigint[]), tide.inbox_mark_failed('i', 13::bigint, 'x')`)
		if n := value[int](t, conn, scans) - before; n != 0 {
			t.Errorf("%d times was a part of the inbox read whole", n)
		}
		exec(t, conn, `rollback`)
	})
}
