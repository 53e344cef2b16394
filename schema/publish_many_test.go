package schema_test

import (
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// Published at once, events are what they would be one by one: in the order
// of the array, with the same defaults, by the same transaction.
func TestManyEventsPublishedAtOnceKeepTheirOrder(t *testing.T) {
	pgtest.Each(t, pgtest.All(), func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o')`)
		exec(t, conn, `
			create temporary table given as
			select tide.outbox_publish_many('o', array_agg(to_jsonb(n)), streams => array_agg('s' || n % 3), headers => array['{"trace": "t"}']::jsonb[],
				keys => array_agg(nullif(n % 5, 0)::text), ops => array['place']) as ids
			from generate_series(1, 10000) n`)
		if wrong := value[int](t, conn, `
			select count(*)
			from (select e.*, row_number() over (order by e.id) as n from tide.outbox_event e) e
			where e.payload <> to_jsonb(e.n) or e.stream <> 's' || e.n % 3 or e.key is distinct from nullif(e.n % 5, 0)::text
				or e.op <> 'place' or e.headers <> '{"trace": "t"}' or e.event_id <> (select ids[e.n] from given)`); wrong > 0 {
			t.Errorf("%d events are not what was published, or out of order", wrong)
		}
		if got := value[string](t, conn, `select count(*) || ' of ' || count(distinct xid) from tide.outbox_event`); got != "10000 of 1" {
			t.Errorf("%s transactions, want 10000 events of 1", got)
		}
	})
}

func TestManyEventsPublishedAtOnceFillInWhatIsNotGiven(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o')`)
	const id = "1f0c2d3e-0000-4000-8000-000000000000"
	if got := value[string](t, conn, `select (tide.outbox_publish_many('o', '{1,2}', event_ids => array[null, $1::uuid]))[2]::text`, id); got != id {
		t.Errorf("event id %s, want the given", got)
	}
	exec(t, conn, `select tide.outbox_publish_many('o', '{3,4}', array['s', null], array[null, '{"h": 1}']::jsonb[], array['k', null], array[null, 'delete'])`)
	exec(t, conn, `select tide.outbox_publish_many('o', '{}'), tide.outbox_publish_many('o', '{}', keys => '{}')`)
	got := column[string](t, conn, `select concat_ws(' ', stream, coalesce(key, '-'), op, payload, headers) from tide.outbox_event order by id`)
	want := `o - insert 1 {}|o - insert 2 {}|s k insert 3 {}|o - delete 4 {"h": 1}`
	if strings.Join(got, "|") != want {
		t.Errorf("got %s, want %s", strings.Join(got, "|"), want)
	}
	if n := value[int](t, conn, `select count(*) from tide.outbox_event where event_id is null`); n != 0 {
		t.Errorf("%d events without an id", n)
	}
}

// One that is refused leaves none, and is named.
func TestOfManyEventsOneThatIsRefusedIsNamed(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o'), tide.outbox_create('off'), tide.outbox_disable('off')`)
	for arguments, want := range map[string][]string{
		`'o', array['1', null]::jsonb[]`:                      {"22004", "payload is null", "event 2 of 2"},
		`'o', '{1,2,3}', keys => '{a,"",c}'`:                  {"22023", "key is empty", "event 2 of 3"},
		`'o', '{1,2}', '{s,"{x"}'`:                            {"22023", `stream {x looks like a payload`, "event 2 of 2"},
		`'o', '{1,2}', array[repeat('x', 256)]`:               {"22023", "256 characters", "event 1 of 2"},
		`'o', '{1,2}', headers => '{"{}","[]"}'`:              {"22023", "headers [] are of type array", "event 2 of 2"},
		`'o', '{1,2}', ops => '{a,b c}'`:                      {"22023", `op "b c"`, "event 2 of 2"},
		`'o', '{1,2}', keys => array['a', repeat('k', 1025)]`: {"22023", "1025 characters", "event 2 of 2"},
		`'o', '{1,2}', keys => '{a}'`:                         {"22023", "keys have 1 elements, and payloads 2", "one element for each payload"},
		`'o', '{1,2}', '{a,b,c}'`:                             {"22023", "streams have 3 elements, and payloads 2", "a single one for all"},
		`'o', '{1,2}', event_ids => array[gen_random_uuid()]`: {"22023", "event_ids have 1 elements", ""},
		`'o', '{}', keys => '{a}'`:                            {"22023", "keys have 1 elements, and payloads 0", ""},
		`'o', null`:                                           {"22004", "payloads are null", ""},
		`'oo', '{1}'`:                                         {"42704", `outbox "oo"`, ""},
		`'oo', '{}'`:                                          {"42704", `outbox "oo"`, ""},
		`null, '{1}'`:                                         {"22004", "outbox name", ""},
		`'off', '{1}'`:                                        {"55000", `outbox "off" is disabled`, "outbox_enable"},
	} {
		_, err := conn.Exec(t.Context(), `select tide.outbox_publish_many(`+arguments+`)`)
		expectError(t, err, want[1])
		if e := pgError(err); e.Code != want[0] || !strings.Contains(e.Message+e.Hint, want[2]) {
			t.Errorf("%s: %s %s, hint %s, want %q", arguments, e.Code, e.Message, e.Hint, want)
		}
	}
	if n := value[int](t, conn, `select count(*) from tide.outbox_event`); n != 0 {
		t.Errorf("%d events of what was refused", n)
	}
}

// A relay that sleeps is woken, and one event's policy is that of many.
func TestManyEventsPublishedAtOnceWakeTheRelayAndAskForTheRight(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('mine'), tide.outbox_create('other')`)
	name, as := asRole(t, conn, "")
	denied(t, as, `select tide.outbox_publish_many('mine', '{1}')`)
	exec(t, conn, `select tide.outbox_grant_publish('mine', $1::text::regrole)`, name)
	sleeper := pgtest.Conn(t, conn.Config().ConnString())
	exec(t, sleeper, `listen tide_outbox; select pg_try_advisory_lock(1953063013, hashtext('mine'))`)
	exec(t, as, `select tide.outbox_publish_many('mine', '{1,2}')`)
	_, err := as.Exec(t.Context(), `select tide.outbox_publish_many('other', '{1,2}')`)
	expectError(t, err, name, `"other"`)
	if value[string](t, conn, `show max_prepared_transactions`) != "0" {
		return // nobody notifies there
	}
	if n, err := sleeper.WaitForNotification(t.Context()); err != nil || n.Payload != "mine" {
		t.Errorf("heard %+v, %v", n, err)
	}
}
