package schema_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

func TestPendingWithALimitReadsAFewPagesOfAMillionMessages(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.inbox_create('big'), tide.inbox_create('small'), tide.inbox_create('unordered', ordered => false)`)
		waiting := map[int]int{pgtest.Oldest: 100_000, pgtest.Newest: 1_000_000}[major]
		// Statistics of a time when nothing waited are the worst.
		receive(t, conn, "big", 1000)
		exec(t, conn, `update tide."big_inbox" set event_id = 'old' || id, processed_at = now()`)
		exec(t, conn, `analyze tide.inbox_message`)
		receive(t, conn, "big", waiting)
		exec(t, conn, `select tide.inbox_mark_failed('big', 'e5', 'x', '1 hour')`)
		for _, statistics := range []string{"old", "new"} {
			if statistics == "new" {
				exec(t, conn, `analyze tide.inbox_message`)
			}
			for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
				exec(t, conn, `set plan_cache_mode = `+mode)
				exec(t, conn, `prepare pick(text) as select id, payload from tide.inbox_pending($1) limit 10`)
				// The first execution reads the catalog; the second shows the plan's own work.
				pages(t, conn, `execute pick('big')`)
				if n := pages(t, conn, `execute pick('big')`); n > 200 {
					t.Errorf("%s statistics, %s: %d pages are read", statistics, mode, n)
				}
				exec(t, conn, `deallocate pick`)
			}
			exec(t, conn, `reset plan_cache_mode`)
		}
		plan := strings.Join(column[string](t, conn, `explain (costs off) select id, payload from tide.inbox_pending('big') limit 10`), "\n")
		if !strings.Contains(plan, "inbox_message_1_0_pending_idx") || strings.Contains(plan, "Seq Scan on inbox_message_1_0") {
			t.Errorf("the plan is\n%s", plan)
		}
		got := column[string](t, conn, `select event_id from tide.inbox_pending('big') limit 5`)
		if strings.Join(got, " ") != "e1 e2 e3 e4 e6" {
			t.Errorf("the oldest are %q", got)
		}
	})
}

// pages runs a statement and says how many pages it touched.
func pages(t *testing.T, conn *pgx.Conn, sql string) int {
	t.Helper()
	var found []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	text := value[string](t, conn, `explain (analyze, buffers, timing off, format json) `+sql)
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatal(err)
	}
	return found[0].Plan.Hit + found[0].Plan.Read
}

func TestAFailedMessageHoldsBackItsOwnKeyOnly(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.inbox_create('ordered'), tide.inbox_create('loose', ordered => false)`)
	for _, inbox := range []string{"ordered", "loose"} {
		receive(t, conn, inbox, 6)
		exec(t, conn, `update tide."`+inbox+`_inbox" set key = case when event_id in ('e2', 'e4') then 'a' when event_id = 'e6' then null else 'b' end`)
		exec(t, conn, `select tide.inbox_mark_failed($1, 'e2', 'x', '1 hour')`, inbox)
	}
	const pending = `select string_agg(event_id, ' ') from tide.inbox_pending($1)`
	if got := value[string](t, conn, pending, "ordered"); got != "e1 e3 e5 e6" {
		t.Errorf("ordered: %s", got)
	}
	if got := value[string](t, conn, pending, "loose"); got != "e1 e3 e4 e5 e6" {
		t.Errorf("not ordered: %s", got)
	}
	exec(t, conn, `update tide."ordered_inbox" set next_attempt_at = now() where event_id = 'e2'`)
	if got := value[string](t, conn, pending, "ordered"); got != "e1 e2 e3 e4 e5 e6" {
		t.Errorf("when its time has come: %s", got)
	}
	exec(t, conn, `select tide.inbox_mark_failed('ordered', 'e2', 'x', '1 hour') from generate_series(1, 9)`)
	if got := value[string](t, conn, pending, "ordered"); got != "e1 e3 e4 e5 e6" {
		t.Errorf("when it is dead: %s", got)
	}
}

func TestMarkingCountsEachMessageOnce(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.inbox_create('i', max_attempts => 3)`)
	receive(t, conn, "i", 9)
	first := value[int64](t, conn, `select min(id) from tide."i_inbox"`)
	for i, want := range []bool{true, false} {
		if got := value[bool](t, conn, `select tide.inbox_mark_processed('i', $1::bigint)`, first); got != want {
			t.Errorf("call %d by id: %v", i, got)
		}
		if got := value[bool](t, conn, `select tide.inbox_mark_processed('i', 'e2')`); got != want {
			t.Errorf("call %d by event id: %v", i, got)
		}
	}
	if n := value[int](t, conn, `select tide.inbox_mark_processed('i', array[$1, $1 + 1, $1 + 2, 999999999])`, first); n != 1 {
		t.Errorf("%d of an array, want 1: two were processed, one is unknown", n)
	}
	if value[bool](t, conn, `select tide.inbox_mark_processed('i', 'no such event')`) {
		t.Error("an unknown event id was marked")
	}
	states := column[string](t, conn, `select tide.inbox_mark_failed('i', 'e4', 'declined') from generate_series(1, 4)`)
	if strings.Join(states, " ") != "pending pending dead dead" {
		t.Errorf("states %q", states)
	}
	if got := value[string](t, conn, `select concat_ws(' ', attempts, last_error, dead_at is not null) from tide."i_inbox" where event_id = 'e4'`); got != "3 declined t" {
		t.Errorf("the dead one is %s", got)
	}
	_, err := conn.Exec(t.Context(), `select tide.inbox_mark_failed('i', 'e2', 'x')`)
	expectError(t, err, "already processed", "55000")

	exec(t, conn, `listen tide_inbox_i`)
	if n := value[int](t, conn, `select tide.inbox_replay('i', array(select id from tide."i_inbox"))`); n != 4 {
		t.Errorf("%d replayed, want three processed and one dead", n)
	}
	if _, err := conn.WaitForNotification(t.Context()); err != nil {
		t.Error(err)
	}
	if n := value[int](t, conn, `select count(*) from tide.inbox_pending('i')`); n != 9 {
		t.Errorf("%d pending after the replay", n)
	}
}

func TestPausesAfterFailuresDoubleAndVary(t *testing.T) {
	conn := embedded(t, 0)
	for _, c := range []struct {
		attempts int
		least    time.Duration
		most     time.Duration
	}{{1, time.Second / 2, time.Second}, {4, 4 * time.Second, 8 * time.Second}, {13, 30 * time.Minute, time.Hour}, {1000, 30 * time.Minute, time.Hour}} {
		outside := value[int](t, conn, `
			select count(*) from generate_series(1, 200), tide.inbox_backoff($1) b where b not between $2 and $3`, c.attempts, c.least, c.most)
		different := value[int](t, conn, `select count(distinct tide.inbox_backoff($1)) from generate_series(1, 20)`, c.attempts)
		if outside != 0 || different < 2 {
			t.Errorf("after %d attempts %d pauses are outside %s to %s, %d differ", c.attempts, outside, c.least, c.most, different)
		}
	}
}

func TestDroppingAnInboxDoesNotWaitLongForWorkers(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.inbox_create('i')`)
	worker := pgtest.Conn(t, conn.Config().ConnString())
	exec(t, worker, `begin`)
	exec(t, worker, `select * from tide.inbox_pending('i')`)
	_, err := conn.Exec(t.Context(), `select tide.inbox_drop('i')`)
	if e := pgError(err); e == nil || e.Code != "55P03" || e.Hint == "" || !strings.Contains(e.Message, `"i"`) {
		t.Errorf("with a worker at work: %v", err)
	}
	exec(t, worker, `rollback`)
	exec(t, conn, `create view watching as select id from tide."i_inbox"`)
	_, err = conn.Exec(t.Context(), `select tide.inbox_drop('i')`)
	if e := pgError(err); e == nil || e.Code != "2BP01" || e.Hint == "" {
		t.Errorf("with a view upon it: %v", err)
	}
	exec(t, conn, `drop view watching`)
	if !value[bool](t, conn, `select tide.inbox_drop('i')`) || value[bool](t, conn, `select tide.inbox_drop('i', if_exists => true)`) {
		t.Error("dropping says the wrong thing")
	}
}
