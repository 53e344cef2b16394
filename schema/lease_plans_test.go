package schema_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// The plans that a session keeps are made when little is in the inbox and nothing
// leased, and go by the same indexes as when millions are.
func TestPlansThatAreKeptGoByTheirIndexes(t *testing.T) {
	const vacuum = `vacuum analyze tide.inbox_message`
	states := []struct {
		when    string
		prepare func(t *testing.T, conn *pgx.Conn)
	}{
		{"the inbox was new", func(*testing.T, *pgx.Conn) {}},
		{"a vacuum had found nothing", func(t *testing.T, conn *pgx.Conn) { exec(t, conn, vacuum) }},
		{"one message had come", func(t *testing.T, conn *pgx.Conn) {
			receive(t, conn, "i", 1)
			exec(t, conn, vacuum)
		}},
		{"nothing had been leased", func(t *testing.T, conn *pgx.Conn) {
			receive(t, conn, "i", 1000)
			exec(t, conn, vacuum)
		}},
		{"nothing was pending", func(t *testing.T, conn *pgx.Conn) {
			receive(t, conn, "i", 1000)
			exec(t, conn, `update tide.i_inbox set processed_at = now()`)
			exec(t, conn, vacuum)
			receive(t, conn, "i", 1001)
		}},
	}
	pgtest.Each(t, pgtest.All(), func(t *testing.T, major int) {
		for _, state := range states {
			t.Run("when "+state.when, func(t *testing.T) {
				conn := embedded(t, major)
				exec(t, conn, `select tide.inbox_create('i')`)
				state.prepare(t, conn)
				// only what is there now is known to the plans: nothing is analyzed later
				exec(t, conn, `select from tide.inbox_claim('i', 'w', 1)`)
				receive(t, conn, "i", 3000)
				worksOne(t, conn)
				checkKeptPlans(t, conn)
			})
		}
	})
}

// checkKeptPlans has the plans shown that the functions keep in this session, and
// not new ones: so the settings are those of the functions.
func checkKeptPlans(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, `set search_path = pg_catalog, pg_temp; set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off;
		set enable_mergejoin = off; set plan_cache_mode = force_generic_plan`, pgx.QueryExecModeSimpleProtocol)
	looks := 0
	for _, execute := range column[string](t, conn, `select format('explain execute %s (%s)', name, array_to_string(array_fill('null'::text, array[cardinality(parameter_types)]), ', '))
		from pg_prepared_statements where name like 'tide\_%'`) {
		plan := strings.Join(column[string](t, conn, execute), "\n")
		// by their ids, messages are found among the pending ones
		want := map[string]int{"pending_idx": 1, "ready_idx": 0, "due_idx": 0, "leased_idx": 0, "held_idx": 0, "pkey": 0, "event_id_key": 0}
		if strings.Contains(plan, "CTE ready") {
			looks++
			want["pending_idx"], want["ready_idx"], want["due_idx"] = 0, 1, 1
			want["leased_idx"], want["held_idx"], want["pkey"] = 1, 2, 1
		}
		for index, times := range want {
			if got := strings.Count(plan, "_"+index+" on"); got != times {
				t.Errorf("%s is used %d times, want %d: %s:\n%s", index, got, times, execute, plan)
			}
		}
		if strings.Contains(plan, "Seq Scan on inbox") || strings.Contains(plan, "Bitmap") {
			t.Errorf("an inbox is read whole: %s:\n%s", execute, plan)
		}
	}
	if looks != 1 {
		t.Errorf("%d statements look for messages, want one", looks)
	}
}
