package schema_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

// oldAndNew are the servers that retention is tried on.
var oldAndNew = []int{pgtest.Oldest, pgtest.Newest}

// step is what tide.maintain has done.
type step struct {
	Outbox, Action string
	Part           int
	Detail         string
}

// maintain works until there is nothing left to do.
func maintain(t testing.TB, conn *pgx.Conn) (done []step) {
	t.Helper()
	for range 100 {
		rows, err := conn.Query(t.Context(), `select coalesce(outbox, ''), action, part, coalesce(detail, '') from tide.maintain()`)
		if err != nil {
			t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[step])
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			return done
		}
		done = append(done, found...)
	}
	t.Fatalf("there is always something to do: %+v", done)
	return nil
}

func actions(steps []step) string {
	var all []string
	for _, s := range steps {
		all = append(all, fmt.Sprintf("%s %d", s.Action, s.Part))
	}
	return strings.Join(all, ", ")
}

// expectSteps maintains and compares. What is not to be had at once, because a
// vacuum is looking at a partition, is had later.
func expectSteps(t *testing.T, conn *pgx.Conn, want string) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	var done []step
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); <-again.C {
		done = append(done, maintain(t, conn)...)
		if got := actions(done); got == want || !strings.HasPrefix(want, got) {
			break
		}
	}
	if got := actions(done); got != want {
		t.Errorf("maintain did %q, want %q", got, want)
	}
}

// age makes everything look as if it had happened that much earlier.
func age(t testing.TB, conn *pgx.Conn, by string) {
	t.Helper()
	exec(t, conn, `update tide.outbox_event set published_at = published_at - $1::interval`, by)
	exec(t, conn, `update tide.outbox_part set used_since = used_since - $1::interval, retired_at = retired_at - $1::interval`, by)
}

func publish(t testing.TB, conn *pgx.Conn, outbox string, count int) {
	t.Helper()
	exec(t, conn, `select tide.outbox_publish($1, '{}'::jsonb) from generate_series(1, $2)`, outbox, count)
}

// deliverAll saves a position that has everything which is committed now.
func deliverAll(t testing.TB, conn *pgx.Conn, pipeline string) {
	t.Helper()
	exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, floor_id, incarnation)
		select p.id, coalesce((select max(seq) from tide.pipeline_position s where s.pipeline_id = p.id), 0) + 1, pg_current_snapshot(),
			(select max(id) from tide.outbox_event), pg_current_xact_id(), n.floor_id, n.incarnation
		from tide.pipeline p cross join tide.node n where p.name = $1`, pipeline)
}

func retained(t testing.TB, conn *pgx.Conn) int {
	t.Helper()
	return value[int](t, conn, `select count(*) from tide.outbox_event`)
}

func TestPartitionsTakeTurnsAndAreEmptiedAfterTheRetention(t *testing.T) {
	pgtest.Each(t, oldAndNew, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o', '4 hours'), tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
		expectSteps(t, conn, "")
		publish(t, conn, "o", 3)
		age(t, conn, "59 minutes")
		expectSteps(t, conn, "")
		age(t, conn, "1 minute")
		expectSteps(t, conn, "prepared 2, announced 2, rotated 2")
		publish(t, conn, "o", 2)
		if n := value[int](t, conn, `select count(*) from tide.outbox_event_2`); n != 2 {
			t.Errorf("%d of 2 events are in the new partition", n)
		}
		deliverAll(t, conn, "p")
		age(t, conn, "3 hours 59 minutes")
		expectSteps(t, conn, "prepared 3, announced 3, rotated 3")
		publish(t, conn, "o", 1)
		age(t, conn, "2 minutes")
		expectSteps(t, conn, "emptied 1")
		if n := retained(t, conn); n != 3 {
			t.Errorf("%d events are retained, want the 3 of the younger partitions", n)
		}
		age(t, conn, "1 hour")
		expectSteps(t, conn, "rotated 1")
		age(t, conn, "1 day")
		deliverAll(t, conn, "p")
		expectSteps(t, conn, "emptied 2, emptied 3")
		if n := retained(t, conn); n != 0 {
			t.Errorf("%d events are retained after a day", n)
		}
		expectSteps(t, conn, "")
	})
}

func TestRetentionKeepsWhatAPipelineHasNotDelivered(t *testing.T) {
	pgtest.Each(t, oldAndNew, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o', '1 hour'), tide.relay_set_outbox('p', 'o', `+natsSink+`),
			tide.relay_set_outbox('paused', 'o', `+natsSink+`, enabled => false)`)
		publish(t, conn, "o", 10)
		age(t, conn, "3 hours")
		expectSteps(t, conn, "prepared 2, announced 2, rotated 2")
		age(t, conn, "3 hours")
		expectSteps(t, conn, "")
		deliverAll(t, conn, "p")
		expectSteps(t, conn, "")
		held := `select format('%s, %s h', held_by, round(extract(epoch from clock_timestamp() - held_since) / 3600)) from tide.outbox_retention`
		if got := value[string](t, conn, held); got != "{paused}, 5 h" {
			t.Errorf("held back by %s", got)
		}
		if got := column[string](t, conn, `select pipeline from tide.relay_status where holds_retention_since < now() - interval '4 hours'`); !slices.Equal(got, []string{"paused"}) {
			t.Errorf("the status of pipelines names %v", got)
		}
		status := value[string](t, conn, `select concat_ws(' ', s -> 'held_by' -> 0 ->> 'pipeline', s -> 'held_by' -> 0 ->> 'paused', s ->> 'warning') from tide.outbox_status('o') s`)
		if status != "paused true" {
			t.Errorf("the outbox's status says %q", status)
		}
		exec(t, conn, `select tide.outbox_set('o', warn_bytes => 1000)`)
		warning := value[string](t, conn, `select tide.outbox_status('o') ->> 'warning'`)
		if !strings.Contains(warning, "limit of 1000 bytes") || !strings.Contains(warning, `"paused"`) {
			t.Errorf("the warning is %q", warning)
		}
		exec(t, conn, `select tide.relay_delete('paused')`)
		expectSteps(t, conn, "emptied 1")
		if got := value[string](t, conn, `select concat(held_by, held_since) from tide.outbox_retention`); got != "{}" {
			t.Errorf("held back by %s after all was delivered", got)
		}
	})
}

func TestAnOutboxWithoutPipelinesKeepsEventsForItsRetentionAlone(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o', '1 hour')`)
	publish(t, conn, "o", 10)
	age(t, conn, "1 hour")
	expectSteps(t, conn, "prepared 2, announced 2, rotated 2")
	age(t, conn, "50 minutes")
	expectSteps(t, conn, "")
	age(t, conn, "11 minutes")
	expectSteps(t, conn, "emptied 1")
}

// What is late, by each part of a position.
func TestAPipelineHoldsBackExactlyWhatItsPositionHasNotSeen(t *testing.T) {
	pgtest.Each(t, oldAndNew, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o'), tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
		exec(t, conn, `insert into tide.outbox_event (xid, id, part, stream, op, payload, headers) values
			('100', 1, 1, 's', 'o', '{}', '{}'), ('105', 2, 1, 's', 'o', '{}', '{}'), ('112', 3, 1, 's', 'o', '{}', '{}'), ('101', 4, 1, 's', 'o', '{}', '{}')`)
		for name, c := range map[string]struct {
			snapshot string
			lastID   int
			floor    int
			drain    string
			drainID  int
			pending  bool
		}{
			"all seen":                                 {"200:200:", 4, 0, "", 0, false},
			"one above the last id":                    {"200:200:", 3, 0, "", 0, true},
			"one was in progress":                      {"105:200:105", 4, 0, "", 0, true},
			"another was in progress":                  {"104:200:104", 4, 0, "", 0, false},
			"one came after the snapshot's end":        {"110:110:", 4, 0, "", 0, true},
			"those below the floor do not count":       {"105:110:105", 4, 3, "", 0, false},
			"the one in progress is above the floor":   {"105:200:105", 4, 1, "", 0, true},
			"a round of late ones has got behind it":   {"105:200:105", 4, 0, "200:200:", 2, false},
			"a round of late ones has not got to it":   {"105:200:105", 4, 0, "200:200:", 1, true},
			"the round's own snapshot did not see it":  {"105:200:105", 4, 0, "105:200:105", 4, true},
			"nothing was ever saved for an older node": {"1:1:", 0, 4, "", 0, true},
		} {
			exec(t, conn, `delete from tide.pipeline_position`)
			exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, floor_id, incarnation, drain_snapshot, drain_id)
				select id, 1, $1::text::pg_snapshot, $2, '300', $3, 1, nullif($4, '')::pg_snapshot, case when $4 <> '' then $5::bigint end from tide.pipeline`,
				c.snapshot, c.lastID, c.floor, c.drain, c.drainID)
			if got := value[bool](t, conn, `select tide.pipeline_oldest(id, '{1}') is not null from tide.pipeline`); got != c.pending {
				t.Errorf("%s: pending is %v", name, got)
			}
			if value[bool](t, conn, `select tide.pipeline_oldest(id, '{2}') is not null from tide.pipeline`) {
				t.Errorf("%s: another partition counts", name)
			}
		}
		exec(t, conn, `delete from tide.pipeline_position`)
		if !value[bool](t, conn, `select tide.pipeline_oldest(id, '{1}') is not null from tide.pipeline`) {
			t.Error("a pipeline without a position has delivered something")
		}
	})
}

func TestAnEventThatCommitsLateIsNotRemoved(t *testing.T) {
	pgtest.Each(t, oldAndNew, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o', '1 hour'), tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
		late := pgtest.Conn(t, conn.Config().ConnString())
		exec(t, late, `begin`)
		publish(t, late, "o", 1)
		publish(t, conn, "o", 3)
		exec(t, conn, `update tide.outbox_part set used_since = used_since - interval '1 hour'`)
		expectSteps(t, conn, "prepared 2")
		// The reserve is not for somebody who does not know it.
		publish(t, late, "o", 1)
		exec(t, late, `commit; begin`)
		publish(t, late, "o", 1)
		expectSteps(t, conn, "announced 2")
		exec(t, late, `commit; begin`)
		publish(t, late, "o", 1)
		expectSteps(t, conn, "rotated 2")
		// From now on the publisher is late in the retired partition.
		deliverAll(t, conn, "p")
		age(t, conn, "3 hours")
		expectSteps(t, conn, "")
		exec(t, late, `commit`)
		expectSteps(t, conn, "") // not delivered
		if n := retained(t, conn); n != 7 {
			t.Errorf("%d events are retained, want 7", n)
		}
		deliverAll(t, conn, "p")
		expectSteps(t, conn, "") // the late one is within the retention
		age(t, conn, "2 hours")
		expectSteps(t, conn, "emptied 1")
	})
}

func TestPublishersWithAnOldViewOfTheOutboxLoseNothingAndDoNotFail(t *testing.T) {
	pgtest.Each(t, oldAndNew, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o', '1 hour'), tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
		prepared := pgtest.Conn(t, conn.Config().ConnString())
		exec(t, prepared, `prepare pub as select tide.outbox_publish('o', '{}'::jsonb)`)
		repeatable := pgtest.Conn(t, conn.Config().ConnString())
		exec(t, repeatable, `begin isolation level repeatable read; select 1 from tide.outbox`)
		bulk := pgtest.Conn(t, conn.Config().ConnString())
		exec(t, bulk, `begin`)
		for range 5 { // past the choice of a generic plan
			exec(t, prepared, `execute pub`)
			publish(t, bulk, "o", 1)
		}
		age(t, conn, "1 hour")
		expectSteps(t, conn, "prepared 2")
		exec(t, bulk, `commit; begin`)
		publish(t, bulk, "o", 1)
		expectSteps(t, conn, "announced 2")
		exec(t, bulk, `commit; begin`)
		publish(t, bulk, "o", 1)
		expectSteps(t, conn, "rotated 2")
		exec(t, prepared, `execute pub`)
		publish(t, bulk, "o", 1)
		exec(t, bulk, `commit`)
		deliverAll(t, conn, "p")
		exec(t, conn, `update tide.outbox_event set published_at = published_at - interval '3 hours';
			update tide.outbox_part set retired_at = retired_at - interval '3 hours'`)
		expectSteps(t, conn, "emptied 1")
		// Its snapshot still shows the first partition as the current one.
		publish(t, repeatable, "o", 1)
		exec(t, repeatable, `commit`)
		expectSteps(t, conn, "")
		age(t, conn, "5 hours")
		expectSteps(t, conn, "prepared 3, announced 3, rotated 3")
		if n := value[int](t, conn, `select count(*) from tide.outbox_event_1`); n != 1 {
			t.Error("an event was removed before it was delivered")
		}
		deliverAll(t, conn, "p")
		age(t, conn, "5 hours")
		maintain(t, conn)
		age(t, conn, "5 hours")
		maintain(t, conn)
		if n := retained(t, conn); n != 0 {
			t.Errorf("%d events are retained", n)
		}
	})
}

func TestAnOldSnapshotDoesNotKeepTheSpace(t *testing.T) {
	pgtest.Each(t, oldAndNew, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o', '1 hour'), tide.relay_set_outbox('p', 'o', `+natsSink+`); create table elsewhere (n int)`)
		stranger := pgtest.Conn(t, conn.Config().ConnString())
		exec(t, stranger, `begin isolation level repeatable read; insert into elsewhere values (1)`)
		exec(t, conn, `select tide.outbox_publish('o', jsonb_build_object('text', repeat('x', 500))) from generate_series(1, 20000)`)
		bytes := func() int64 { return value[int64](t, conn, `select bytes from tide.outbox_retention`) }
		full := bytes()
		// Updating ages them at the price of as much again, which is none of the product's.
		exec(t, conn, `update tide.outbox_part set used_since = used_since - interval '2 hours'`)
		deliverAll(t, conn, "p")
		expectSteps(t, conn, "prepared 2, announced 2, rotated 2")
		age(t, conn, "2 hours")
		expectSteps(t, conn, "emptied 1")
		if empty := bytes(); full < 10<<20 || empty > 1<<17 {
			t.Errorf("the outbox had %d bytes and has %d after it was emptied", full, empty)
		}
		// A truncation shows to older snapshots; docs/retention.md says so.
		if n := value[int](t, stranger, `select count(*) from tide.outbox_event`); n != 0 {
			t.Errorf("the old snapshot sees %d events", n)
		}
	})
}

func TestMaintainRefusesAnOldSnapshotAndBadSettings(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o')`)
	_, err := conn.Exec(t.Context(), `begin isolation level repeatable read; select * from tide.maintain()`)
	expectError(t, err, "REPEATABLE READ", "25000")
	exec(t, conn, `rollback`)
	for sql, code := range map[string]string{
		`select tide.outbox_set('o', retention => '48')`: "22023",
		`select tide.outbox_set('o', warn_bytes => 0)`:   "22023",
		`select tide.outbox_set('no')`:                   "42704",
	} {
		_, err := conn.Exec(t.Context(), sql)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != code || e.Hint == "" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	exec(t, conn, `select tide.outbox_set('o', retention => '2 days')`)
	exec(t, conn, `select tide.outbox_set('o', warn_bytes => 5)`)
	if got := value[string](t, conn, `select concat_ws(' ', retention, warn_bytes) from tide.outbox_retention`); got != "2 days 5" {
		t.Errorf("the outbox has %s", got)
	}
}

func TestOneSessionMaintainsAtATime(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o', '1 hour')`)
	publish(t, conn, "o", 1)
	age(t, conn, "1 hour")
	other := pgtest.Conn(t, conn.Config().ConnString())
	exec(t, other, `begin; select * from tide.maintain()`)
	expectSteps(t, conn, "")
	exec(t, other, `rollback`)
	expectSteps(t, conn, "prepared 2, announced 2, rotated 2")
}

func TestWhatADroppedOutboxLeftIsEmptiedOnceMore(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o', '1 hour')`)
	late := pgtest.Conn(t, conn.Config().ConnString())
	exec(t, late, `begin isolation level repeatable read; select 1 from tide.outbox`)
	publish(t, conn, "o", 1)
	maintain(t, conn)
	exec(t, conn, `select tide.outbox_drop('o')`)
	publish(t, late, "o", 1)
	exec(t, late, `commit`)
	expectSteps(t, conn, "")
	exec(t, conn, `update tide.outbox_part set used_since = used_since - interval '2 hours'`)
	expectSteps(t, conn, "emptied 1")
	exec(t, conn, `select tide.outbox_create('a'), tide.outbox_create('b')`)
	if got := value[string](t, conn, `select string_agg(name || part, ' ' order by name) from tide.outbox`); got != "a1 b2" {
		t.Errorf("the outboxes have parts %s", got)
	}
}

func TestAnOutboxThatIsDeliveredNeedsFivePartitions(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o', '4 hours'), tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
	for range 60 {
		publish(t, conn, "o", 1)
		deliverAll(t, conn, "p")
		age(t, conn, "11 minutes")
		maintain(t, conn)
	}
	// A sixth when a vacuum was in the way for once.
	if n := value[int](t, conn, `select partitions from tide.outbox_retention`); n < 5 || n > 6 {
		t.Errorf("%d partitions after 11 hours, with a retention of 4", n)
	}
	// An hour and a quarter, in steps of eleven minutes, over the retention.
	if n := retained(t, conn); n < 22 || n > 30 {
		t.Errorf("%d events are retained of the 22 within the retention", n)
	}
}

func TestManyPartitionsAreNotMadeHoweverLongAPipelineIsBehind(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o', '1 hour'), tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
	for range 100 {
		publish(t, conn, "o", 20)
		exec(t, conn, `update tide.outbox_part set used_since = used_since - interval '1 hour'`)
		maintain(t, conn)
	}
	if n := value[int](t, conn, `select partitions from tide.outbox_retention`); n < 10 || n > 30 {
		t.Errorf("%d partitions after 100 turns", n)
	}
}

// newColumns are those that retention has added.
const newColumns = `
	select concat_ws(' ', 'outbox', name, warn_bytes) as line from tide.outbox
	union all select concat_ws(' ', 'part', part, retired_at, unseen_by) from tide.outbox_part
	order by line`

func TestPartitionsSurviveADumpAndGoOnTakingTurns(t *testing.T) {
	dump, restore := dumpTools(t)
	source := pgtest.Default(t.Context())
	from := embeddedAlone(t, source)
	exec(t, from, `select tide.outbox_create('o', '1 hour'), tide.relay_set_outbox('p', 'o', `+natsSink+`), tide.outbox_set('o', warn_bytes => 123456789), tide.node_check(1, 1)`)
	for range 3 {
		publish(t, from, "o", 5)
		maintain(t, from)
		age(t, from, "20 minutes")
	}
	want, columns := column[string](t, from, everyRow), column[string](t, from, newColumns)
	file := filepath.Join(t.TempDir(), "dump")
	tool(t, dump, "--format=custom", "--file="+file, "--dbname="+from.Config().ConnString())
	pgtest.Each(t, []int{source, pgtest.Newest}, func(t *testing.T, major int) {
		embeddedAlone(t, major) // the roles belong to the cluster
		to := pgtest.Conn(t, pgtest.Database(t, major))
		tool(t, restore, "--exit-on-error", "--dbname="+to.Config().ConnString(), file)
		if got := column[string](t, to, everyRow); !slices.Equal(got, want) {
			t.Errorf("rows after the restore:\n%s\nbefore:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if got := column[string](t, to, newColumns); !slices.Equal(got, columns) {
			t.Errorf("after the restore %v, before %v", got, columns)
		}
		publish(t, to, "o", 5)
		age(t, to, "2 hours")
		maintain(t, to)
		if n := retained(t, to); n != 20 {
			t.Errorf("%d events are left of 20 that nobody has delivered", n)
		}
		// The xids in the restored rows are of another history: a relay notices.
		exec(t, to, `select tide.node_check(2, 2)`)
		deliverAll(t, to, "p")
		age(t, to, "2 hours")
		maintain(t, to)
		if n := retained(t, to); n != 0 {
			t.Errorf("%d events are left after all was delivered", n)
		}
	})
}

func TestAnUpgradedOutboxTakesTurns(t *testing.T) {
	for _, version := range schema.Released() {
		conn := pgtest.Conn(t, pgtest.Database(t, 0))
		if err := schema.InstallReleased(t.Context(), conn, version); err != nil {
			t.Fatal(err)
		}
		exec(t, conn, `select tide.outbox_create('o', '1 hour'), tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
		publish(t, conn, "o", 5)
		if err := schema.Upgrade(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		expectSteps(t, conn, "")
		age(t, conn, "2 hours")
		expectSteps(t, conn, "prepared 2, announced 2, rotated 2")
		age(t, conn, "2 hours")
		expectSteps(t, conn, "")
		deliverAll(t, conn, "p")
		expectSteps(t, conn, "emptied 1")
	}
}
