package schema_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// delivered is a pipeline that has sent all of its outbox's events, one for
// each of the given ages.
func delivered(t *testing.T, ages ...time.Duration) *pgx.Conn {
	t.Helper()
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o')`)
	exec(t, conn, `select tide.relay_set_outbox('p', 'o', `+natsSink+`)`)
	for _, age := range ages {
		exec(t, conn, `select tide.outbox_publish('o', 'o', '{}')`)
		exec(t, conn, `update tide.outbox_event set published_at = clock_timestamp() - $1::interval
			where id = (select max(id) from tide.outbox_event)`, age.String())
	}
	exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, incarnation)
		select p.id, 1, pg_current_snapshot(), $1, pg_current_xact_id(), 1 from tide.pipeline p`, len(ages))
	return conn
}

func lastID(t *testing.T, conn *pgx.Conn) int64 {
	t.Helper()
	return value[int64](t, conn, `select last_id from tide.pipeline_position order by seq desc limit 1`)
}

func TestRewindsToTheFirstEventOfATime(t *testing.T) {
	conn := delivered(t, 4*time.Hour, 3*time.Hour, 2*time.Hour, time.Minute)
	for _, c := range []struct {
		to          string
		again, last int64
	}{
		{`now()`, 0, 4},
		{`now() - interval '1 hour'`, 1, 3},
		{`now() - interval '1 hour'`, 0, 3},
		{`now() - interval '150 minutes'`, 1, 2},
		{`'-infinity'`, 2, 0},
	} {
		if got := value[int64](t, conn, `select tide.relay_rewind('p', `+c.to+`)`); got != c.again {
			t.Errorf("rewound to %s: %d events go again, want %d", c.to, got, c.again)
		}
		if got := lastID(t, conn); got != c.last {
			t.Errorf("rewound to %s: the position is %d, want %d", c.to, got, c.last)
		}
	}
	if got := *statusOf(t, conn, "p").Lag; got != 4 {
		t.Errorf("the status counts %d events to come, want 4", got)
	}
}

func TestARewindSupersedesTheRelayAtWork(t *testing.T) {
	conn := delivered(t, time.Hour)
	exec(t, conn, `listen tide_relay`)
	fence := value[int64](t, conn, `select fence from tide.pipeline_owner`)
	exec(t, conn, `select tide.relay_rewind('p', '-infinity')`)
	if got := value[int64](t, conn, `select fence from tide.pipeline_owner`); got != fence+1 {
		t.Errorf("the fence is %d after a rewind, want %d", got, fence+1)
	}
	if n, err := conn.WaitForNotification(t.Context()); err != nil || n.Payload != "p" {
		t.Errorf("notified with %v, %v", n, err)
	}
}

func TestAnEventThatIsStillToComeIsNotCountedAsSentAgain(t *testing.T) {
	conn := delivered(t)
	late := pgtest.Conn(t, conn.Config().ConnString())
	tx, err := late.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select tide.outbox_publish('o', 'o', '{}')`); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `select tide.outbox_publish('o', 'o', '{}')`)
	exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, incarnation)
		select p.id, 2, pg_current_snapshot(), 2, pg_current_xact_id(), 1 from tide.pipeline p`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := value[int64](t, conn, `select tide.relay_rewind('p', '-infinity')`); got != 1 {
		t.Errorf("%d events go again, want the one that was sent", got)
	}
}

func TestARewindSaysWhyItCannotBe(t *testing.T) {
	conn := delivered(t, time.Hour)
	exec(t, conn, `select tide.outbox_create('empty'), tide.inbox_create('i')`)
	exec(t, conn, `select tide.relay_set_outbox('nothing', 'empty', `+natsSink+`)`)
	exec(t, conn, `select tide.relay_set_inbox('in', 'i', '{"source_type": "nats", "url": "nats://h", "subject": "a.>"}')`)
	for _, c := range []struct{ call, code, message string }{
		{`'q', now()`, "42704", `pipeline "q" does not exist`},
		{`null, now()`, "22004", `pipeline name is null`},
		{`'p', null`, "22004", `to_time for pipeline "p" is null`},
		{`'p', now() + interval '1 hour'`, "22023", `in the future`},
		{`'p', 'infinity'`, "22023", `in the future`},
		{`'p', now() - interval '2 hours'`, "22023", `is before what outbox "o" retains: its oldest event is of`},
		{`'nothing', now() - interval '2 hours'`, "22023", `outbox "empty" of pipeline "nothing" retains no event`},
		{`'in', now()`, "55000", `pipeline "in" brings messages into an inbox`},
	} {
		_, err := conn.Exec(t.Context(), `select tide.relay_rewind(`+c.call+`)`)
		if e := pgError(err); e == nil || e.Code != c.code || !strings.Contains(e.Message, c.message) || e.Hint == "" {
			t.Errorf("relay_rewind(%s): %v, want %s %q and a hint", c.call, err, c.code, c.message)
		}
	}
	if got := value[int64](t, conn, `select tide.relay_rewind('nothing', '-infinity')`); got != 0 {
		t.Errorf("%d events of an empty outbox go again", got)
	}
}

func TestAnOperatorMayRewind(t *testing.T) {
	conn := delivered(t, time.Hour)
	_, operator := asRole(t, conn, `in role tide_operator`)
	_, reader := asRole(t, conn, `in role tide_reader`)
	exec(t, operator, `select tide.relay_rewind('p', '-infinity')`)
	denied(t, reader, `select tide.relay_rewind('p', '-infinity')`)
}

func TestARewindOfATransactionThatSeesAnOlderPositionAsksToTryAgain(t *testing.T) {
	conn := delivered(t, time.Hour)
	other := pgtest.Conn(t, conn.Config().ConnString())
	exec(t, other, `begin isolation level repeatable read`)
	exec(t, other, `select count(*) from tide.pipeline_position`)
	exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, incarnation)
		select pipeline_id, 2, snapshot, last_id, bound, incarnation from tide.pipeline_position`)
	_, err := other.Exec(t.Context(), `select tide.relay_rewind('p', '-infinity')`)
	if e := pgError(err); e == nil || e.Code != "40001" {
		t.Errorf("got %v, want a serialization failure", err)
	}
}
