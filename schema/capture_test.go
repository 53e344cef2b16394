package schema_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// captured lists the events since the last call, one a line: op, key, payload,
// and the headers where there are some.
func captured(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	lines := column[string](t, conn, `
		select concat_ws(' ', op, coalesce(key, '-'), payload, nullif(headers, '{}')) from tide.outbox_event
		where id > coalesce(nullif(current_setting('test.seen', true), ''), '0')::bigint order by id`)
	exec(t, conn, `select set_config('test.seen', (select coalesce(max(id), 0)::text from tide.outbox_event), false)`)
	return lines
}

func expectEvents(t testing.TB, conn *pgx.Conn, what string, want ...string) {
	t.Helper()
	if got := captured(t, conn); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: events\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// refused fails unless the statement fails with the SQLSTATE and the words in
// message or hint.
func refused(t testing.TB, conn *pgx.Conn, sql, code string, words ...string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	e := pgError(err)
	if e == nil {
		t.Errorf("%s: %v, want SQLSTATE %s", sql, err, code)
		return
	}
	if e.Code != code || e.Hint == "" {
		t.Errorf("%s: %s %s, hint %q, want SQLSTATE %s and a hint", sql, e.Code, e.Message, e.Hint, code)
	}
	for _, word := range words {
		if !strings.Contains(e.Message+" / "+e.Hint, word) {
			t.Errorf("%s: %s / %s: lacks %q", sql, e.Message, e.Hint, word)
		}
	}
}

// both runs a test on the oldest and the newest PostgreSQL, with outbox o.
func both(t *testing.T, test func(t *testing.T, conn *pgx.Conn, major int)) {
	t.Helper()
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o')`)
		test(t, conn, major)
	})
}

func TestACapturedTablesChangesAreEvents(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table orders (id int primary key, status text)`)
		if !value[bool](t, conn, `select tide.outbox_capture("table" => 'orders', outbox => 'o')`) {
			t.Error("the first capture changed nothing")
		}
		exec(t, conn, `insert into orders values (1, 'new'), (2, 'new')`)
		expectEvents(t, conn, "insert", `insert 1 {"id": 1, "status": "new"}`, `insert 2 {"id": 2, "status": "new"}`)
		exec(t, conn, `update orders set status = 'paid'`)
		expectEvents(t, conn, "update", `update 1 {"id": 1, "status": "paid"}`, `update 2 {"id": 2, "status": "paid"}`)
		exec(t, conn, `delete from orders where id = 2`)
		expectEvents(t, conn, "delete", `delete 2 {"id": 2, "status": "paid"}`)
		exec(t, conn, `update orders set status = 'x' where id = 99; delete from orders where id = 99; insert into orders select 1, 'x' where false`)
		expectEvents(t, conn, "statements without rows")
		exec(t, conn, `begin; insert into orders values (3, 'no'); rollback`)
		expectEvents(t, conn, "a rollback")
		if got := value[string](t, conn, `select distinct stream from tide.outbox_event`); got != "orders" {
			t.Errorf("stream %q", got)
		}
		if value[bool](t, conn, `select tide.outbox_capture('orders', 'o', '{"stream": "sales"}')`) {
			t.Error("the second capture is new")
		}
		exec(t, conn, `alter table orders rename to purchases; insert into purchases values (3, 'renamed')`)
		expectEvents(t, conn, "a renamed table", `insert 3 {"id": 3, "status": "renamed"}`)
		if got := value[string](t, conn, `select format('%s %s %s', v."table", v.state, e.stream) from tide.outbox_captures v, tide.outbox_event e order by e.id desc limit 1`); got != "purchases capturing sales" {
			t.Errorf("listed as %q", got)
		}
		exec(t, conn, `select tide.outbox_capture_drop('purchases')`)
		exec(t, conn, `insert into purchases values (4, 'free')`)
		expectEvents(t, conn, "after the end")
		refused(t, conn, `select tide.outbox_capture_drop('purchases')`, "42704", "not captured", "outbox_captures")
		if value[bool](t, conn, `select tide.outbox_capture_drop('purchases', if_exists => true)`) {
			t.Error("dropped twice")
		}
		if n := value[int](t, conn, `select count(*) from pg_trigger where not tgisinternal and tgrelid = 'purchases'::regclass`); n != 0 {
			t.Errorf("%d triggers are left", n)
		}
	})
}

// A thousand rows are published by one statement, in order; more than a batch
// is published in several.
func TestRowsOfAStatementKeepTheirOrder(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table many (a int, b int, primary key (a, b)); select tide.outbox_capture('many', 'o', '{"old_values": true}')`)
		inOrder := func(what, op string, n int, sql string) {
			t.Helper()
			exec(t, conn, `truncate tide.outbox_event_1`)
			exec(t, conn, sql)
			if got := value[int](t, conn, `
				select count(*) from (select e.*, row_number() over (order by id) as n from tide.outbox_event e) e
				where op = $1 and payload ->> 'a' = n::text and key = format('[%s, %s]', n, -n)
					and (op <> 'update' or payload -> 'old' = payload - 'old')`, op); got != n {
				t.Errorf("%s: %d events are right, want %d", what, got, n)
			}
		}
		inOrder("some", "insert", 1000, `insert into many select n, -n from generate_series(1, 1000) n`)
		inOrder("more than two batches", "insert", 25000, `delete from many; truncate tide.outbox_event_1; insert into many select n, -n from generate_series(1, 25000) n`)
		inOrder("update", "update", 25000, `with o as (select a, b from many order by a) update many m set b = m.b from o where o.a = m.a and o.b = m.b`)
		exec(t, conn, `truncate tide.outbox_event_1; update many set a = a + 1000000`)
		if got := value[string](t, conn, `
			select string_agg(concat_ws(' ', op, n, right_place), ', ' order by op)
			from (
				select op, count(*) as n, bool_and(case op when 'delete' then id <= first_insert else true end) as right_place
				from (select *, min(id) filter (where op = 'insert') over () as first_insert from tide.outbox_event) e
				group by op
			) o`); got != "delete 25000 t, insert 25000 t" {
			t.Errorf("with other keys: %s", got)
		}
	})
}

func TestOptionsSayWhatAnEventHolds(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table people (id int primary key, email text, notes text, "Odd ""name" int, active boolean default true)`)
		for _, c := range []struct{ options, want string }{
			{`{}`, `insert 1 {"id": 1, "email": "a@b", "notes": "n", "active": true, "Odd \"name": 7}`},
			{`{"exclude": ["notes", "Odd \"name"]}`, `insert 1 {"id": 1, "email": "a@b", "active": true}`},
			{`{"columns": ["email"]}`, `insert 1 {"email": "a@b"}`},
			{`{"mask": ["email"], "columns": ["id", "email"]}`, `insert 1 {"id": 1, "email": "***"}`},
			{`{"mask": {"email": null, "notes": {"was": "long"}}, "columns": ["email", "notes"]}`, `insert 1 {"email": null, "notes": {"was": "long"}}`},
			{`{"mask": ["email", "id"], "columns": ["id"]}`, `insert 1 {"id": "***"}`},
			{`{"columns": ["id"], "key": "email"}`, `insert a@b {"id": 1}`},
			{`{"columns": ["id"], "key": ["email", "id"]}`, `insert ["a@b", 1] {"id": 1}`},
			{`{"columns": ["id"], "event_type": "person.{op}d"}`, `insert 1 {"id": 1} {"event_type": "person.insertd"}`},
			{`{"columns": ["id"], "when": "$.email starts with \"a\" && $op == \"insert\""}`, `insert 1 {"id": 1}`},
			{`{"when": "$.active == false"}`, ``},
			{`{"when": "$.\"Odd \\\"name\" > 7"}`, ``},
			{`{"columns": ["id"], "when": "$.active"}`, `insert 1 {"id": 1}`},
		} {
			exec(t, conn, `select tide.outbox_capture('people', 'o', $1)`, c.options)
			exec(t, conn, `insert into people values (1, 'a@b', 'n', 7)`)
			want := []string{c.want}
			if c.want == "" {
				want = nil
			}
			expectEvents(t, conn, c.options, want...)
			exec(t, conn, `delete from people`)
			captured(t, conn)
		}
	})
}

func TestOldValuesAndConditionsOverThem(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table accounts (id int primary key, balance int, secret text default 's')`)
		exec(t, conn, `select tide.outbox_capture('accounts', 'o', '{"old_values": true, "mask": ["secret"], "when": "$op != \"update\" || $.balance != $old.balance"}')`)
		exec(t, conn, `insert into accounts values (1, 10), (2, 20)`)
		exec(t, conn, `update accounts set balance = 20`)
		exec(t, conn, `delete from accounts where id = 1`)
		expectEvents(t, conn, "old values",
			`insert 1 {"id": 1, "secret": "***", "balance": 10}`, `insert 2 {"id": 2, "secret": "***", "balance": 20}`,
			`update 1 {"id": 1, "old": {"id": 1, "secret": "***", "balance": 10}, "secret": "***", "balance": 20}`,
			`delete 1 {"id": 1, "secret": "***", "balance": 20}`)
		exec(t, conn, `alter table accounts add column old int`)
		refused(t, conn, `update accounts set balance = 1`, "22023", "accounts", `column "old"`)
	})
}

// The key that a row gives up is deleted before another takes it.
func TestAChangedKeyIsADeletionAndAnInsertion(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table t (id int primary key deferrable, v text); select tide.outbox_capture('t', 'o')`)
		exec(t, conn, `insert into t values (1, 'a'), (2, 'b'), (9, 'c')`)
		captured(t, conn)
		exec(t, conn, `update t set id = case when id < 9 then id + 1 else id end`)
		expectEvents(t, conn, "keys move up",
			`delete 1 {"v": "a", "id": 1} {"new_key": "2"}`, `delete 2 {"v": "b", "id": 2} {"new_key": "3"}`,
			`insert 2 {"v": "a", "id": 2} {"old_key": "1"}`, `insert 3 {"v": "b", "id": 3} {"old_key": "2"}`, `update 9 {"v": "c", "id": 9}`)
		exec(t, conn, `update t set id = 10 where id = 9`)
		expectEvents(t, conn, "one", `delete 9 {"v": "c", "id": 9} {"new_key": "10"}`, `insert 10 {"v": "c", "id": 10} {"old_key": "9"}`)
	})
}

// The table's own triggers change rows again: their events come behind that of
// the statement that fired them, at any depth.
func TestEventsOfTheTablesOwnTriggersComeBehind(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table t (id int primary key, n int default 0); create table audit (id int)`)
		exec(t, conn, `create function again() returns trigger language plpgsql as $$ begin
			insert into audit values (new.id);
			if new.n < 2 then update t set n = n + 1 where id = new.id; end if; return null; end $$`)
		exec(t, conn, `create function elsewhere() returns trigger language plpgsql as $$ begin
			if new.id = 77 then update t set n = 100 where id = 1; end if; return null; end $$`)
		exec(t, conn, `create trigger again after insert or update on t for each row execute function again()`)
		exec(t, conn, `create trigger elsewhere after insert on audit for each row execute function elsewhere()`)
		exec(t, conn, `select tide.outbox_capture('t', 'o')`)
		exec(t, conn, `insert into t values (1), (2)`)
		expectEvents(t, conn, "inserts that a trigger updates twice",
			`insert 1 {"n": 0, "id": 1}`, `insert 2 {"n": 0, "id": 2}`, `update 1 {"n": 1, "id": 1}`, `update 1 {"n": 2, "id": 1}`,
			`update 2 {"n": 1, "id": 2}`, `update 2 {"n": 2, "id": 2}`)
		// Begun by another table: what follows in the transaction is not moved.
		exec(t, conn, `begin; insert into audit values (77); update t set n = 50 where id = 1; insert into t values (77, 9); commit`)
		expectEvents(t, conn, "through another table",
			`update 1 {"n": 100, "id": 1}`, `update 1 {"n": 50, "id": 1}`, `update 1 {"n": 100, "id": 1}`, `insert 77 {"n": 9, "id": 77}`)
		// Whoever forges the settings gains nothing but an error of their own.
		exec(t, conn, `begin; set local tide.capture_open = 'nonsense'; set local tide.capture_nested = ' x/1-2 y'; insert into t values (3, 5); commit`)
		expectEvents(t, conn, "with forged settings", `insert 3 {"n": 5, "id": 3}`)
		// A caught error takes its marks along.
		exec(t, conn, `begin; do $$ begin insert into t values (4, 5), (3, 5); exception when unique_violation then null; end $$; insert into t values (5, 1); commit`)
		expectEvents(t, conn, "after a caught error", `insert 5 {"n": 1, "id": 5}`, `update 5 {"n": 2, "id": 5}`)
	})
}

func TestTruncateIsRefusedOrTold(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table t (id int primary key); create table child (id int primary key references t); insert into t values (1)`)
		exec(t, conn, `select tide.outbox_capture('t', 'o')`)
		refused(t, conn, `truncate t cascade`, "55000", `"public.t"`, `outbox "o"`, `"truncate": "publish"`)
		exec(t, conn, `select tide.outbox_capture('t', 'o', '{"truncate": "publish"}')`)
		exec(t, conn, `truncate t cascade`)
		expectEvents(t, conn, "truncate", `truncate - {"table": "public.t"}`)
	})
}

func TestWhatCannotBeCapturedIsNamed(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o'), tide.inbox_create('i')`)
	exec(t, conn, `create table orders (id int primary key, status text, event_type text); create table keyless (a int); create view v as select 1;
		create temporary table passing (id int primary key); create table p (id int primary key) partition by hash (id);
		create table p1 partition of p for values with (modulus 1, remainder 0)`)
	for arguments, want := range map[string][]string{
		`'orders', 'oo'`: {"42704", `outbox "oo"`, `"o"`},
		`'orders', null`: {"22004", "outbox name"},
		`null, 'o'`:      {"22004", "table null"},
		`'orders', 'o', '{"exlude": ["status"]}'`:              {"22023", `option "exlude"`, `"exclude"`},
		`'orders', 'o', '{"zzzzzzzz": 1}'`:                     {"22023", `option "zzzzzzzz"`, "columns, event_type"},
		`'orders', 'o', '[]'`:                                  {"22023", "options are []"},
		`'orders', 'o', '{"exclude": "status"}'`:               {"22023", `option "exclude" is "status"`, `["notes"]`},
		`'orders', 'o', '{"exclude": [1]}'`:                    {"22023", `option "exclude" is [1]`},
		`'orders', 'o', '{"exclude": []}'`:                     {"22023", `option "exclude" is []`},
		`'orders', 'o', '{"exclude": ["statsu"]}'`:             {"42703", `column "statsu"`, `"status"`},
		`'orders', 'o', '{"mask": {"statsu": 1}}'`:             {"42703", `column "statsu"`, `"status"`},
		`'orders', 'o', '{"key": ["id", "sattus"]}'`:           {"42703", `option "key"`, `"status"`},
		`'orders', 'o', '{"when": "$.statsu == 1"}'`:           {"42703", `option "when"`, `"status"`},
		`'orders', 'o', '{"when": "$old.statsu == 1"}'`:        {"42703", `option "when"`, `"status"`},
		`'orders', 'o', '{"when": "status ="}'`:                {"22023", "not a JSON path", "$.status"},
		`'orders', 'o', '{"when": "$was.status == 1"}'`:        {"22023", "no condition", "was", "$old"},
		`'orders', 'o', '{"when": "1 + 1"}'`:                   {"22023", "no condition"},
		`'orders', 'o', '{"truncate": "ignore"}'`:              {"22023", "ignore", "refuse, publish"},
		`'orders', 'o', '{"old_values": "yes"}'`:               {"22023", `option "old_values"`},
		`'orders', 'o', '{"stream": "{x"}'`:                    {"22023", `stream "{x"`},
		`'orders', 'o', '{"columns":["id"],"exclude":["id"]}'`: {"22023", "both given"},
		`'keyless', 'o'`:                                       {"22023", "no primary key", `"key"`},
		`'v', 'o'`:                                             {"42809", "a view"},
		`'passing', 'o'`:                                       {"42809", "temporary"},
		`'pg_class', 'o'`:                                      {"42809", "of the system"},
		`'tide.outbox', 'o'`:                                   {"42809", "of tide"},
		`'tide.i_inbox', 'o'`:                                  {"42809", ""},
		`'p1', 'o'`:                                            {"42809", `partition of "public.p"`},
	} {
		refused(t, conn, `select tide.outbox_capture(`+arguments+`)`, want[0], want[1:]...)
	}
	if n := value[int](t, conn, `select (select count(*) from tide.outbox_capture) + (select count(*) from pg_trigger where tgname like 'tide_capture%')`); n != 0 {
		t.Errorf("%d traces of what was refused", n)
	}
	// The type of an event is not what a column of that name says.
	exec(t, conn, `select tide.outbox_capture('orders', 'o'); insert into orders values (1, 's', 'mine')`)
	expectEvents(t, conn, "a column event_type", `insert 1 {"id": 1, "status": "s", "event_type": "mine"} {"event_type": "orders.insert"}`)
	exec(t, conn, `create table texts (id text primary key); select tide.outbox_capture('texts', 'o')`)
	refused(t, conn, `insert into texts values ('')`, "22023", "texts", "key of this row is empty")
	refused(t, conn, `insert into texts values (repeat('x', 1025))`, "22023", "1025 characters")
	exec(t, conn, `insert into texts values (repeat('x', 1024))`)
	refused(t, conn, `select tide.outbox_drop('o')`, "55006", "public.orders", "public.texts", "outbox_capture_drop")
	exec(t, conn, `select tide.outbox_disable('o')`)
	refused(t, conn, `insert into texts values ('a')`, "55000", "texts", `outbox "o", which is disabled`, "outbox_enable")
	if got := value[string](t, conn, `select distinct state || ': ' || reason from tide.outbox_captures`); !strings.Contains(got, `blocked: outbox "o" is disabled`) {
		t.Errorf("listed as %s", got)
	}
	exec(t, conn, `drop table texts; select tide.outbox_capture_drop('orders')`)
	if got := value[string](t, conn, `select state || ': ' || reason from tide.outbox_captures`); !strings.Contains(got, "stopped: the table is gone") {
		t.Errorf("listed as %s", got)
	}
	exec(t, conn, `select tide.outbox_drop('o')`)
}
