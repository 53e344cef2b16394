package schema_test

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

const natsSink = `'{"sink_type": "nats", "url": "nats://h"}'`

type status struct {
	State, Reason, Owner string
	Lag                  *int64
	Exact                *bool
	Seconds              *float64
	Rate                 float64
}

func statusOf(t *testing.T, conn *pgx.Conn, pipeline string) status {
	t.Helper()
	var s status
	err := conn.QueryRow(t.Context(), `
		select state, coalesce(reason, ''), coalesce(owner, ''), lag_events, lag_exact, lag_seconds, rate_per_second
		from tide.relay_status where pipeline = $1`, pipeline).
		Scan(&s.State, &s.Reason, &s.Owner, &s.Lag, &s.Exact, &s.Seconds, &s.Rate)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStatusSaysInWordsWhyNothingMoves(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o'), tide.inbox_create('i')`)
	exec(t, conn, `select tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
	exec(t, conn, `select tide.relay_set_inbox('in', 'i', '{"source_type": "nats", "url": "nats://h", "subject": "a.>"}')`)
	expect := func(state, reason, owner string) {
		t.Helper()
		s := statusOf(t, conn, "p")
		if s.State != state || s.Reason != reason || s.Owner != owner {
			t.Errorf("got %+v, want %s, %q, owner %q", s, state, reason, owner)
		}
	}
	expect("unowned", "no relay is running for this database; start one with: pg-tide --postgres-url URL", "")
	exec(t, conn, `insert into tide.relay_instance (id, host, pid, version) values (gen_random_uuid(), 'host', 7, 'v')`)
	expect("unowned", "no relay has taken it over yet", "")
	exec(t, conn, `update tide.pipeline_owner set relay_id = (select id from tide.relay_instance), since = clock_timestamp()`)
	expect("starting", "the relay is starting it", "host:7")
	exec(t, conn, `insert into tide.pipeline_state (pipeline_id, state, reason, rate_per_second) select id, 'waiting', 'waiting for the broker', 5 from tide.pipeline`)
	expect("waiting", "waiting for the broker", "host:7")
	exec(t, conn, `select tide.relay_disable('p')`)
	expect("paused", "paused; resume it with: select tide.relay_enable('p');", "host:7")
	if s := statusOf(t, conn, "p"); s.Rate != 0 || *s.Lag != 0 || !*s.Exact || *s.Seconds != 0 {
		t.Errorf("paused and with nothing to do: %+v", s)
	}
	exec(t, conn, `select tide.relay_enable('p')`)
	exec(t, conn, `update tide.relay_instance set heartbeat_at = clock_timestamp() - interval '9 seconds'`)
	expect("unowned", "no relay is running for this database; start one with: pg-tide --postgres-url URL", "")
	if s := statusOf(t, conn, "in"); s.Lag != nil || s.Seconds != nil {
		t.Errorf("a reverse pipeline has the lag %+v", s)
	}
}

func TestTheLagOfAReversePipelineIsWhatTheRelayReportedLast(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.inbox_create('i')`)
		exec(t, conn, `select tide.relay_set_inbox('p', 'i', '{"source_type": "nats", "url": "nats://h", "subject": "a.>"}')`)
		exec(t, conn, `insert into tide.pipeline_state (pipeline_id, state) select id, 'running' from tide.pipeline`)
		if s := statusOf(t, conn, "p"); s.Lag != nil || s.Exact != nil {
			t.Errorf("a source that says nothing has the lag %+v", s)
		}
		exec(t, conn, `update tide.pipeline_state set lag_events = 7`)
		// No relay lives, and it stands nevertheless.
		if s := statusOf(t, conn, "p"); s.State != "unowned" || s.Lag == nil || *s.Lag != 7 || *s.Exact || s.Seconds != nil {
			t.Errorf("the source said 7: %+v", s)
		}
	})
}

func TestLagCountsWhatThePositionDoesNotCover(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o'), tide.outbox_create('other')`)
		exec(t, conn, `select tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
		late := pgtest.Conn(t, conn.Config().ConnString())
		exec(t, late, `begin`)
		exec(t, late, `select tide.outbox_publish('o', '{}'::jsonb) from generate_series(1, 3)`)
		exec(t, conn, `select tide.outbox_publish('o', '{}'::jsonb) from generate_series(1, 10)`)
		exec(t, conn, `select tide.outbox_publish('other', '{}'::jsonb) from generate_series(1, 10)`)
		expectLag(t, conn, 10)
		// A position that has all that is visible now, while the late three are not.
		exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, incarnation)
			select p.id, 1, pg_current_snapshot(), (select max(id) from tide.outbox_event), pg_current_xact_id(), 1 from tide.pipeline p`)
		expectLag(t, conn, 0)
		exec(t, late, `commit`)
		expectLag(t, conn, 3)
		// Halfway through draining the late ones.
		exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, incarnation, drain_snapshot, drain_id)
			select p.pipeline_id, 2, p.snapshot, p.last_id, p.bound, 1, pg_current_snapshot(), 2 from tide.pipeline_position p`)
		expectLag(t, conn, 1)
		exec(t, conn, `select tide.outbox_publish('o', '{}'::jsonb) from generate_series(1, 4)`)
		expectLag(t, conn, 5)
		if s := statusOf(t, conn, "p"); *s.Seconds <= 0 {
			t.Errorf("with events waiting the lag is %v seconds", *s.Seconds)
		}
	})
}

func expectLag(t *testing.T, conn *pgx.Conn, want int64) {
	t.Helper()
	if s := statusOf(t, conn, "p"); s.Lag == nil || *s.Lag != want || !*s.Exact {
		t.Errorf("lag %+v, want exactly %d", s, want)
	}
}

func TestALargeLagIsEstimated(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o')`)
	exec(t, conn, `select tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
	exec(t, conn, `insert into tide.outbox_event (part, stream, op, payload, headers) select 1, 's', 'o', '{}', '{}' from generate_series(1, 250000)`)
	s := statusOf(t, conn, "p")
	if *s.Exact || *s.Lag < 200_000 || *s.Lag > 300_000 {
		t.Errorf("lag %d, exact %v, with 250000 events", *s.Lag, *s.Exact)
	}
	var described struct {
		Retained      int64
		RetainedExact bool `json:"retained_exact"`
		Bytes         int64
		Pipelines     []struct {
			Name    string
			Pending int64
		}
	}
	if err := json.Unmarshal([]byte(value[string](t, conn, `select tide.outbox_status('o')::text`)), &described); err != nil {
		t.Fatal(err)
	}
	if described.RetainedExact || described.Bytes == 0 || len(described.Pipelines) != 1 || described.Pipelines[0].Pending != *s.Lag {
		t.Errorf("status %+v", described)
	}
}

func TestChangesOfAPipelineAreAnnouncedAndCounted(t *testing.T) {
	conn := embedded(t, 0)
	listener := pgtest.Conn(t, conn.Config().ConnString())
	exec(t, listener, `listen tide_relay`)
	heard := func(want string) {
		t.Helper()
		n, err := listener.WaitForNotification(t.Context())
		if err != nil || n.Payload != want {
			t.Fatalf("heard %+v, %v, want %s", n, err, want)
		}
	}
	exec(t, conn, `select tide.outbox_create('o'), tide.outbox_create('other')`)
	for _, sql := range []string{
		`select tide.relay_set_outbox('p', 'o', ` + natsSink + `)`,
		`select tide.relay_disable('p')`,
		`select tide.relay_enable('p')`,
		`select tide.relay_set_outbox('p', 'o', ` + natsSink + `::jsonb || '{"batch_size": 10}')`,
		`select tide.relay_set_outbox('p', 'other', ` + natsSink + `)`,
	} {
		exec(t, conn, sql)
		heard("p")
	}
	version := value[int](t, conn, `select version from tide.pipeline`)
	if version != 5 {
		t.Errorf("version %d after four changes", version)
	}
	if value[bool](t, conn, `select tide.relay_enable('p')`) {
		t.Error("enabling an enabled pipeline changed something")
	}
	exec(t, conn, `select tide.relay_set_outbox('p', 'other', `+natsSink+`)`)
	if got := value[int](t, conn, `select version from tide.pipeline`); got != version {
		t.Errorf("setting the same again made version %d", got)
	}
	exec(t, conn, `select tide.relay_delete('p')`)
	heard("p")
}

func TestAPipelineWithAnotherOutboxStartsAgainAndSupersedesItsRelay(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o'), tide.outbox_create('other')`)
	exec(t, conn, `select tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
	exec(t, conn, `update tide.pipeline_owner set relay_id = gen_random_uuid(), fence = 4`)
	exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, incarnation) select id, 1, '5:5:', 1, '6', 1 from tide.pipeline`)
	exec(t, conn, `select tide.relay_set_outbox('p', 'o', `+natsSink+`::jsonb || '{"batch_size": 10}')`)
	if n := value[int](t, conn, `select count(*) from tide.pipeline_position`); n != 1 {
		t.Error("another setting lost the position")
	}
	exec(t, conn, `select tide.relay_set_outbox('p', 'other', `+natsSink+`)`)
	if n := value[int](t, conn, `select count(*) from tide.pipeline_position`); n != 0 {
		t.Error("another outbox kept the position")
	}
	if got := value[string](t, conn, `select concat_ws(' ', fence, relay_id is null) from tide.pipeline_owner`); got != "5 t" {
		t.Errorf("the owner is %s", got)
	}
}

func TestACopiedDatabaseIsNoticed(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o')`)
	exec(t, conn, `select tide.outbox_publish('o', '{}'::jsonb) from generate_series(1, 7)`)
	exec(t, conn, `update tide.node set system_identifier = null, database_oid = null`)
	check := func(system, oid int) string {
		t.Helper()
		return value[string](t, conn, `select concat_ws(' ', incarnation, floor_id) from tide.node_check($1, $2::int::oid, 1)`, system, oid)
	}
	for i, c := range []struct {
		system, oid int
		want        string
	}{{1, 1, "1 0"}, {1, 1, "1 0"}, {2, 1, "2 7"}, {2, 1, "2 7"}, {2, 2, "3 7"}} {
		if got := check(c.system, c.oid); got != c.want {
			t.Errorf("check %d: incarnation and floor %s, want %s", i, got, c.want)
		}
	}
	if n := value[int](t, conn, `select count(distinct i) from (select tide.node_id() i union all select database_id from tide.node) x`); n != 1 {
		t.Error("the database's id changed")
	}
}

func TestDeadLettersAreAskedForAgainOrDiscarded(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o')`)
	exec(t, conn, `select tide.relay_set_outbox('p', 'o', `+natsSink+`), tide.relay_set_outbox('q', 'o', `+natsSink+`)`)
	exec(t, conn, `insert into tide.dead_letter (pipeline_id, identity, error) select p.id, 'e' || n, 'x' from tide.pipeline p, generate_series(1, 3) n`)
	ids := `array(select id from tide.dead_letters)`
	if n := value[int](t, conn, `select tide.dead_letter_retry('p', `+ids+`)`); n != 3 {
		t.Errorf("%d asked for, want the pipeline's own 3", n)
	}
	if n := value[int](t, conn, `select count(*) from tide.dead_letters where retry_requested_at is not null and pipeline = 'p'`); n != 3 {
		t.Errorf("%d are marked", n)
	}
	if n := value[int](t, conn, `select tide.dead_letter_discard('q', `+ids+`)`); n != 3 {
		t.Errorf("%d discarded", n)
	}
	if n := value[int](t, conn, `select count(*) from tide.dead_letters`); n != 3 {
		t.Errorf("%d are left", n)
	}
}
