package schema_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// refusal is a call that must fail: with which SQLSTATE, and what its message
// must name.
type refusal struct {
	sql, code string
	names     []string
}

func refusals() []refusal {
	long := strings.Repeat("x", 49)
	return []refusal{
		// names
		{`select tide.outbox_create(null)`, "22004", []string{"outbox name"}},
		{`select tide.outbox_create('')`, "42602", []string{`outbox name ""`}},
		{`select tide.outbox_create('` + long + `')`, "42622", []string{long, "49"}},
		{`select tide.outbox_create('there')`, "42710", []string{`outbox "there"`}},
		{`select tide.outbox_create('a"b')`, "42602", []string{`a"b`}},
		{`select tide.outbox_create('a''b')`, "42602", []string{`a'b`}},
		{`select tide.outbox_create('a b')`, "42602", []string{`a b`}},
		{`select tide.outbox_create('größe')`, "42602", []string{`größe`}},
		{`select tide.outbox_create('9a')`, "42602", []string{`9a`}},
		{`select tide.outbox_create(E'a\nb')`, "42602", []string{"a\nb"}},
		{`select tide.inbox_create('a/b')`, "42602", []string{`inbox name "a/b"`}},
		{`select tide.inbox_create('there')`, "42710", []string{`inbox "there"`}},
		{`select tide.inbox_create(null)`, "22004", []string{"inbox name"}},
		{`select tide.relay_set_outbox('a b', 'there', '{}')`, "42602", []string{`pipeline name "a b"`}},
		{`select tide.relay_set_outbox(null, 'there', '{}')`, "22004", []string{"pipeline name"}},
		// unknown objects
		{`select tide.outbox_publish('theer', '{}'::jsonb)`, "42704", []string{`outbox "theer"`}},
		{`select tide.outbox_publish(null, '{}'::jsonb)`, "22004", []string{"outbox name"}},
		{`select tide.outbox_drop('nothing')`, "42704", []string{`outbox "nothing"`}},
		{`select tide.outbox_drop(null)`, "22004", []string{"outbox name"}},
		{`select tide.outbox_enable('nothing')`, "42704", []string{"nothing"}},
		{`select tide.outbox_disable('nothing')`, "42704", []string{"nothing"}},
		{`select tide.outbox_status('nothing')`, "42704", []string{"nothing"}},
		{`select tide.outbox_grant_publish('nothing', 'tide_reader')`, "42704", []string{"nothing"}},
		{`select tide.outbox_grant_publish('there', null)`, "22004", []string{"role null"}},
		{`select tide.outbox_revoke_publish('there', 4294967000::oid::regrole)`, "42704", []string{"4294967000"}},
		{`select tide.inbox_drop('nothing')`, "42704", []string{`inbox "nothing"`}},
		{`select * from tide.inbox_pending('nothing')`, "42704", []string{`inbox "nothing"`}},
		{`select * from tide.inbox_pending(null)`, "22004", []string{"inbox name"}},
		{`select tide.inbox_mark_processed('nothing', 1)`, "42704", []string{"nothing"}},
		{`select tide.inbox_mark_processed('nothing', 'e')`, "42704", []string{"nothing"}},
		{`select tide.inbox_mark_processed('nothing', array[1])`, "42704", []string{"nothing"}},
		{`select tide.inbox_mark_processed('there', null::bigint[])`, "22004", []string{"there", "ids"}},
		{`select * from tide.inbox_claim('nothing', 'w')`, "42704", []string{"nothing"}},
		{`select * from tide.inbox_claim(null, 'w')`, "22004", []string{"inbox name"}},
		{`select * from tide.inbox_claim('there', null)`, "22004", []string{"worker", "there", "null"}},
		{`select * from tide.inbox_claim('there', '')`, "22023", []string{"worker", "there", "empty"}},
		{`select * from tide.inbox_claim('there', 'w', 0)`, "22023", []string{"max_messages 0", "there"}},
		{`select * from tide.inbox_claim('there', 'w', null)`, "22004", []string{"max_messages null", "there"}},
		{`select * from tide.inbox_claim('there', 'w', 10001)`, "22023", []string{"max_messages 10001", "10000"}},
		{`select * from tide.inbox_claim('there', 'w', 1, '0 s')`, "22023", []string{"lease 00:00:00", "there"}},
		{`select * from tide.inbox_claim('there', 'w', 1, '2 days')`, "22023", []string{"lease 2 days", "there"}},
		{`select * from tide.inbox_claim('there', 'w', 1, null)`, "22004", []string{"lease null", "there"}},
		{`select tide.inbox_complete('nothing', gen_random_uuid(), '{1}')`, "42704", []string{"nothing"}},
		{`select tide.inbox_complete('there', null, '{1}')`, "22004", []string{"lease_token", "there"}},
		{`select tide.inbox_complete('there', gen_random_uuid(), null)`, "22004", []string{"ids", "there"}},
		{`select tide.inbox_complete('there', gen_random_uuid(), array[null::bigint])`, "22004", []string{"ids", "there"}},
		{`select tide.inbox_complete('there', gen_random_uuid(), '{99}')`, "TD001", []string{"there", "message 99", "no such message"}},
		{`select tide.inbox_extend('there', gen_random_uuid(), '{1}', '-1 s')`, "22023", []string{"lease -00:00:01", "there"}},
		{`select tide.inbox_extend('there', gen_random_uuid(), '{1}')`, "TD001", []string{"there", "message 1", "nobody has it"}},
		{`select tide.inbox_release('there', gen_random_uuid(), '{1}', '-1 s')`, "22023", []string{"retry_in -00:00:01", "there"}},
		{`select tide.inbox_fail('there', gen_random_uuid(), '{1}', 'x', '-1 s')`, "22023", []string{"retry_in -00:00:01", "there"}},
		{`select tide.inbox_fail('there', gen_random_uuid(), '{1}', 'x')`, "TD001", []string{"there", "message 1"}},
		{`begin isolation level repeatable read; select * from tide.inbox_claim('there', 'w')`, "25001", []string{"there", "REPEATABLE READ"}},
		{`rollback; select * from tide.inbox_claim('there', '')`, "22023", []string{"there"}},
		{`select tide.inbox_mark_failed('nothing', 1, 'x')`, "42704", []string{"nothing"}},
		{`select tide.inbox_mark_failed('there', 99, 'x')`, "42704", []string{"there", "99"}},
		{`select tide.inbox_mark_failed('there', null::bigint, 'x')`, "42704", []string{"there", "null"}},
		{`select tide.inbox_mark_failed('there', 'no-such', 'x')`, "42704", []string{"there", "no-such"}},
		{`select tide.inbox_mark_failed('there', 1, 'x', '-1 s')`, "22023", []string{"there", "-00:00:01"}},
		{`select tide.inbox_replay('nothing', array[1])`, "42704", []string{"nothing"}},
		{`select tide.inbox_replay('there', null)`, "22004", []string{"there"}},
		{`select tide.inbox_status('nothing')`, "42704", []string{"nothing"}},
		{`select tide.relay_enable('nothing')`, "42704", []string{`pipeline "nothing"`}},
		{`select tide.relay_disable(null)`, "22004", []string{"pipeline name"}},
		{`select tide.relay_delete('nothing')`, "42704", []string{"nothing"}},
		{`select tide.relay_get_config('nothing')`, "42704", []string{"nothing"}},
		{`select tide.dead_letter_retry('nothing', array[1])`, "42704", []string{"nothing"}},
		{`select tide.dead_letter_retry('flow', null)`, "22004", []string{"flow"}},
		{`select tide.dead_letter_discard('flow', null)`, "22004", []string{"flow"}},
		{`select tide.node_check(null, 1)`, "22004", []string{"system_identifier"}},
		// numbers and intervals
		{`select tide.outbox_create('new', '-1 day')`, "22023", []string{"-1 day", "new"}},
		{`select tide.outbox_create('new', '48')`, "22023", []string{"00:00:48", "new"}},
		{`select tide.outbox_create('new', null)`, "22004", []string{"retention", "new"}},
		{`select tide.outbox_create_if_not_exists('new', '59 s')`, "22023", []string{"00:00:59"}},
		{`select tide.inbox_create('new', max_attempts => 0)`, "22023", []string{"0", "new"}},
		{`select tide.inbox_create('new', max_attempts => null)`, "22004", []string{"null", "new"}},
		{`select tide.inbox_create('new', retention => '0')`, "22023", []string{"00:00:00", "new"}},
		{`select tide.inbox_create('new', ordered => null)`, "22004", []string{"ordered", "new"}},
		// publishing
		{`select tide.outbox_publish('there', 's', null)`, "22004", []string{"there", "payload"}},
		{`select tide.outbox_publish('there', 's', '{}', '[]')`, "22023", []string{"there", "headers []", "array"}},
		{`select tide.outbox_publish('there', 's', '{}', '"x"')`, "22023", []string{"string"}},
		{`select tide.outbox_publish('there', '{"a": 1}', '{"event_type": "x"}')`, "22023", []string{`{"a": 1}`}},
		{`select tide.outbox_publish('there', '[1]', '{}')`, "22023", []string{`[1]`}},
		{`select tide.outbox_publish('there', '', '{}')`, "22023", []string{"stream"}},
		{`select tide.outbox_publish('there', repeat('x', 256), '{}')`, "22023", []string{"256"}},
		{`select tide.outbox_publish('there', 's', '{}', key => '')`, "22023", []string{"key"}},
		{`select tide.outbox_publish('there', 's', '{}', key => repeat('x', 1025))`, "22023", []string{"1025"}},
		{`select tide.outbox_publish('there', 's', '{}', op => 'a b')`, "22023", []string{`"a b"`}},
		{`select tide.outbox_publish('there', 's', '{}', op => '')`, "22023", []string{`op ""`}},
		{`select tide.outbox_publish('closed', 's', '{}')`, "55000", []string{"closed", "disabled"}},
		// states
		{`select tide.outbox_drop('there')`, "55006", []string{"there", `"flow"`}},
		{`select tide.inbox_drop('there')`, "55006", []string{"there", `"flow-in"`}},
		{`select tide.relay_set_inbox('flow', 'there', '{"source_type": "nats", "url": "nats://h", "subject": "a.>"}')`, "55000", []string{"flow", "forward"}},
	}
}

// configurations are what relay_set_outbox must refuse.
func configurations() []refusal {
	return []refusal{
		{`null`, "22004", []string{"config is null"}},
		{`'[]'`, "22023", []string{"array", "[]"}},
		{`'"x"'`, "22023", []string{"string"}},
		{`'{}'`, "22023", []string{"sink_type"}},
		{`'{"sink_type": "carrier-pigeon"}'`, "22023", []string{"carrier-pigeon"}},
		{`'{"sink_type": 7}'`, "22023", []string{"sink_type", "7"}},
		{`'{"source_type": "nats", "url": "nats://h"}'`, "22023", []string{"source_type", "forward"}},
		{`'{"sink_type": "nats"}'`, "22023", []string{"url", "missing"}},
		{`'{"sink_type": "nats", "url": 7}'`, "22023", []string{"url", "7", "number"}},
		{`'{"sink_type": "nats", "url": ""}'`, "22023", []string{"url", "empty"}},
		{`'{"sink_type": "nats", "url": null}'`, "22023", []string{"url", "null"}},
		{`'{"sink_type": "nats", "url": "nats://h", "subject_templat": "x"}'`, "22023", []string{"subject_templat"}},
		{`'{"sink_type": "nats", "url": "nats://h", "frobnicate": 1}'`, "22023", []string{"frobnicate"}},
		{`'{"sink_type": "nats", "url": "nats://h", "durable_name": "x"}'`, "22023", []string{"durable_name", "forward"}},
		{`'{"sink_type": "nats", "url": "nats://h", "batch_size": "many"}'`, "22023", []string{"batch_size", "many", "string"}},
		{`'{"sink_type": "nats", "url": "nats://h", "batch_size": 1.5}'`, "22023", []string{"batch_size", "1.5"}},
		{`'{"sink_type": "nats", "url": "nats://h", "create_stream": "yes"}'`, "22023", []string{"create_stream", "yes"}},
		{`'{"sink_type": "nats", "url": "nats://h", "on_error": "shrug"}'`, "22023", []string{"on_error", "shrug"}},
		{`'{"sink_type": "nats", "url": "nats://h", "transform": "x"}'`, "22023", []string{"transform", "string"}},
		{`'{"sink_type": "nats", "url": "nats://h", "transform": {"filtre": "x"}}'`, "22023", []string{"transform.filtre"}},
		{`'{"sink_type": "nats", "url": "nats://h", "transform": {"filter": 7}}'`, "22023", []string{"transform.filter", "7"}},
		{`'{"sink_type": "nats", "url": "nats://h", "transform": {"filter": "  "}}'`, "22023", []string{"transform.filter"}},
		{`'{"sink_type": "nats", "url": "nats://h", "transform": {"filter": "payload.a == ''x"}}'`, "22023", []string{"transform.filter", "quote"}},
		{`'{"sink_type": "nats", "url": "nats://h", "transform": {"filter": "f(payload.a"}}'`, "22023", []string{"transform.filter", ")"}},
		{`'{"sink_type": "nats", "url": "nats://h", "transform": {"payload": "a]"}}'`, "22023", []string{"transform.payload", "]", "2"}},
		{`'{"sink_type": "nats", "url": "nats://h", "routing": {"rules": [{"when": "a"}]}}'`, "22023", []string{"routing.rules[0]"}},
		{`'{"sink_type": "nats", "url": "nats://h", "routing": {"rules": [{"when": "a", "drop": true}, {"when": "b", "subject": ""}]}}'`, "22023", []string{"routing.rules[1]"}},
		{`'{"sink_type": "nats", "url": "nats://h", "routing": {"rules": [{"when": "a", "drop": true, "topic": "x"}]}}'`, "22023", []string{"routing.rules[0]"}},
		{`'{"sink_type": "nats", "url": "nats://h", "routing": {"rules": [{"when": "a", "drop": false}]}}'`, "22023", []string{"routing.rules[0]"}},
		{`'{"sink_type": "nats", "url": "nats://h", "routing": {"rules": [{"when": "a", "subjct": "x"}]}}'`, "22023", []string{"routing.rules[0].subjct"}},
		{`'{"sink_type": "nats", "url": "nats://h", "routing": {"default": "x", "drop_unmatched": true}}'`, "22023", []string{"routing.default", "routing.drop_unmatched"}},
		{`'{"sink_type": "nats", "url": "nats://h", "routing": {"rules": [{"when": "(a", "subject": "x"}]}}'`, "22023", []string{"routing.rules[0].when"}},
		{`'{"sink_type": "nats", "url": "nats://h", "credentials": "a", "credentials_file": "b"}'`, "22023", []string{"credentials", "credentials_file"}},
		{`'{"sink_type": "nats", "url": "nats://h", "password": 7}'`, "22023", []string{"password", "(secret)"}},
	}
}

func TestBadArgumentsAreRefusedWithCodeObjectAndHintAndLeaveNothing(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('there'), tide.outbox_create('closed'), tide.outbox_disable('closed'), tide.inbox_create('there')`)
		exec(t, conn, `select tide.relay_set_outbox('flow', 'there', '{"sink_type": "nats", "url": "nats://h"}')`)
		exec(t, conn, `select tide.relay_set_inbox('flow-in', 'there', '{"source_type": "nats", "url": "nats://h", "subject": "a.>"}')`)
		receive(t, conn, "there", 1)
		rows, things := column[string](t, conn, everyRow), catalog(t, conn)
		for _, r := range refusals() {
			expectRefusal(t, conn, r)
		}
		for _, r := range configurations() {
			r.sql = `select tide.relay_set_outbox('new', 'there', ` + r.sql + `)`
			r.names = append(r.names, `pipeline "new"`)
			expectRefusal(t, conn, r)
		}
		got := column[string](t, conn, everyRow)
		if sequencesAside(got) != sequencesAside(rows) {
			t.Errorf("rows are left: %s", strings.Join(got, "\n"))
		}
		sameCatalog(t, "after refusals", catalog(t, conn), things)
	})
}

// sequencesAside leaves out the sequences: a number that was drawn is not given back.
func sequencesAside(lines []string) string {
	var kept []string
	for _, line := range lines {
		if !strings.HasPrefix(line, "sequence ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func expectRefusal(t *testing.T, conn *pgx.Conn, r refusal) {
	t.Helper()
	_, err := conn.Exec(t.Context(), r.sql)
	e := pgError(err)
	if e == nil {
		t.Errorf("%s: %v, want it refused with %s", r.sql, err, r.code)
		return
	}
	if e.Code != r.code {
		t.Errorf("%s: SQLSTATE %s (%s), want %s", r.sql, e.Code, e.Message, r.code)
	}
	if e.Hint == "" {
		t.Errorf("%s: no hint with %q", r.sql, e.Message)
	}
	for _, name := range r.names {
		if !strings.Contains(e.Message, name) {
			t.Errorf("%s: message %q lacks %q", r.sql, e.Message, name)
		}
	}
}

func TestUnknownKeysAndNamesAreAnsweredWithTheNearest(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('order_events')`)
	for sql, near := range map[string]string{
		`select tide.relay_set_outbox('p', 'order_events', '{"sink_type": "nats", "url": "nats://h", "subject_templat": "x"}')`:       `"subject_template"`,
		`select tide.relay_set_outbox('p', 'order_events', '{"sink_type": "nats", "url": "nats://h", "transform": {"fliter": "x"}}')`: `"transform.filter"`,
		`select tide.outbox_publish('order_event', '{}'::jsonb)`:                                                                      `"order_events"`,
		`select tide.relay_set_outbox('p', 'order_events', '{"sink_type": "nat"}')`:                                                   `nats`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		if e := pgError(err); e == nil || !strings.Contains(e.Hint, near) {
			t.Errorf("%s: %v, want a hint with %s", sql, err, near)
		}
	}
}

func TestNamesThatAreAllowedWorkEverywhere(t *testing.T) {
	conn := embedded(t, 0)
	for _, name := range []string{"Orders", "orders", "ORDERS", "a.b-c_d", "_", "select", strings.Repeat("x", 48), "a--b", "A."} {
		exec(t, conn, `select tide.outbox_create($1), tide.inbox_create($1)`, name)
		exec(t, conn, `select tide.relay_set_outbox($1, $1, '{"sink_type": "nats", "url": "nats://h"}')`, name)
		exec(t, conn, `select tide.relay_set_inbox($1, $2, '{"source_type": "nats", "url": "nats://h", "subject": "a.>"}')`, name[:len(name)-1]+"Z", name)
		exec(t, conn, `select tide.outbox_publish($1, '{}'::jsonb)`, name)
		receive(t, conn, name, 3)
		if n := value[int](t, conn, `select count(*) from tide.inbox_pending($1)`, name); n != 3 {
			t.Errorf("%q: %d pending", name, n)
		}
		exec(t, conn, `select tide.inbox_mark_processed($1, 'e1'), tide.inbox_mark_failed($1, 'e2', 'x'), tide.inbox_status($1), tide.outbox_status($1)`, name)
		exec(t, conn, `select tide.inbox_replay($1, array(select id from tide.inbox_message))`, name)
		exec(t, conn, `select tide.relay_get_config($1), tide.relay_disable($1), tide.relay_delete($1)`, name)
		exec(t, conn, `select tide.relay_delete($1)`, name[:len(name)-1]+"Z")
		exec(t, conn, `select tide.outbox_drop($1), tide.inbox_drop($1)`, name)
	}
}
