package schema_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestCapturedAfterTheSchemaChanged(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table t (id int primary key, email text, notes text, extra int)`)
		exec(t, conn, `select tide.outbox_capture('t', 'o', '{"exclude": ["notes"], "mask": ["email"]}')`)
		exec(t, conn, `insert into t values (1, 'a@b', 'n', 1)`)
		exec(t, conn, `alter table t add column more text default 'm'; insert into t values (2, 'a@b', 'n', 1)`)
		exec(t, conn, `alter table t drop column extra; insert into t values (3, 'a@b', 'n')`)
		exec(t, conn, `alter table t alter column id type bigint; insert into t values (4, 'a@b', 'n')`)
		exec(t, conn, `alter table t drop column notes; insert into t values (5, 'a@b')`)
		expectEvents(t, conn, "columns that come and go",
			`insert 1 {"id": 1, "email": "***", "extra": 1}`, `insert 2 {"id": 2, "more": "m", "email": "***", "extra": 1}`,
			`insert 3 {"id": 3, "more": "m", "email": "***"}`, `insert 4 {"id": 4, "more": "m", "email": "***"}`, `insert 5 {"id": 5, "more": "m", "email": "***"}`)
		// A renamed column would escape its mask.
		exec(t, conn, `alter table t rename column email to mail`)
		refused(t, conn, `insert into t values (6, 'a@b')`, "42703", `"public.t"`, `column "email"`, `is now "mail"`, "outbox_capture again")
		if got := value[string](t, conn, `select state || ': ' || reason from tide.outbox_captures`); got != `blocked: column "email" is gone or renamed: capture the table again` {
			t.Errorf("listed as %s", got)
		}
		exec(t, conn, `select tide.outbox_capture('t', 'o', '{"mask": ["mail"]}'); insert into t values (6, 'a@b')`)
		expectEvents(t, conn, "captured again", `insert 6 {"id": 6, "mail": "***", "more": "m"}`)
		for _, options := range []string{`{}`, `{"columns": ["mail"]}`} {
			exec(t, conn, `select tide.outbox_capture('t', 'o', $1)`, options)
			exec(t, conn, `alter table t rename column id to number`)
			refused(t, conn, `insert into t values (7, 'a@b')`, "42703", `"public.t"`, `column "id", which the key is made of`, `is now "number"`)
			refused(t, conn, `update t set mail = 'x'`, "42703", `column "id"`)
			refused(t, conn, `select * from tide.outbox_capture_backfill('t')`, "42703", `column "id"`)
			exec(t, conn, `alter table t rename column number to id`)
		}
		exec(t, conn, `select tide.outbox_capture('t', 'o'); begin; alter table t rename column id to number; select tide.outbox_capture('t', 'o'); insert into t values (7, 'a@b'); commit`)
		expectEvents(t, conn, "in one transaction", `insert 7 {"mail": "a@b", "more": "m", "number": 7}`)
		exec(t, conn, `alter table t drop column number`)
		refused(t, conn, `insert into t values ('a@b')`, "42703", `column "number"`, "is gone")
	})
	// A key of several columns, of which one is renamed.
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o'); create table t (a int, b int, primary key (a, b)); select tide.outbox_capture('t', 'o'); alter table t rename column b to c`)
	refused(t, conn, `insert into t values (1, 2)`, "42703", `column "b"`, `is now "c"`)
}

func TestCapturedPartitions(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table p (id int primary key, v text) partition by range (id);
			create table p1 partition of p for values from (0) to (10);
			create table p2 (gone int, v text, id int not null, primary key (id)); alter table p2 drop column gone; alter table p attach partition p2 for values from (10) to (20)`)
		exec(t, conn, `select tide.outbox_capture('p', 'o', '{"old_values": true}')`)
		exec(t, conn, `insert into p values (1, 'a'), (12, 'b')`)
		exec(t, conn, `update p set v = 'c'; update p set id = 13 where id = 1`)
		exec(t, conn, `insert into p2 (id, v) values (14, 'direct'); update p2 set v = 'd' where id = 14; delete from p2 where id = 14`)
		exec(t, conn, `delete from p where id = 12`)
		expectEvents(t, conn, "partitions",
			`insert 1 {"v": "a", "id": 1}`, `insert 12 {"v": "b", "id": 12}`,
			`update 1 {"v": "c", "id": 1, "old": {"v": "a", "id": 1}}`, `update 12 {"v": "c", "id": 12, "old": {"v": "b", "id": 12}}`,
			`delete 1 {"v": "c", "id": 1} {"new_key": "13"}`, `insert 13 {"v": "c", "id": 13} {"old_key": "1"}`,
			`insert 14 {"v": "direct", "id": 14}`, `update 14 {"v": "d", "id": 14, "old": {"v": "direct", "id": 14}}`, `delete 14 {"v": "d", "id": 14}`,
			`delete 12 {"v": "c", "id": 12}`)
		// A row that is refused where it was moved to is gone.
		exec(t, conn, `create function nix() returns trigger language plpgsql as 'begin if new.id = 15 then return null; end if; return new; end'; create trigger nix before insert on p2 for each row execute function nix()`)
		exec(t, conn, `insert into p values (3, 'lost'), (4, 'moved')`)
		captured(t, conn)
		exec(t, conn, `update p set id = id + 12 where id in (3, 4)`)
		expectEvents(t, conn, "a row that is lost on the way",
			`delete 3 {"v": "lost", "id": 3}`, `delete 4 {"v": "moved", "id": 4}`, `insert 16 {"v": "moved", "id": 16}`)
		exec(t, conn, `insert into p values (3, 'lost')`)
		captured(t, conn)
		exec(t, conn, `update p set id = 15 where id = 3`)
		expectEvents(t, conn, "the only row is lost", `delete 3 {"v": "lost", "id": 3}`)
		// A new partition is captured through its table, and once captured again also by its name.
		exec(t, conn, `create table p3 partition of p for values from (20) to (30); insert into p values (21, 'x'); insert into p3 values (22, 'unseen')`)
		expectEvents(t, conn, "a new partition", `insert 21 {"v": "x", "id": 21}`)
		if got := value[string](t, conn, `select state || ': ' || reason from tide.outbox_captures`); got != `partial: statements that name partition "p3" are not captured: capture the table again` {
			t.Errorf("listed as %s", got)
		}
		exec(t, conn, `select tide.outbox_capture('p', 'o'); insert into p3 values (23, 'seen')`)
		expectEvents(t, conn, "captured again", `insert 23 {"v": "seen", "id": 23}`)
		refused(t, conn, `truncate p3`, "55000", `"public.p3"`)
		// A detached partition is another table.
		exec(t, conn, `alter table p detach partition p3; delete from p3; truncate p3`)
		expectEvents(t, conn, "a detached partition")
		exec(t, conn, `select tide.outbox_capture_drop('p')`)
		if n := value[int](t, conn, `select count(*) from pg_trigger where tgname like 'tide_capture%'`); n != 0 {
			t.Errorf("%d triggers are left", n)
		}
	})
}

// A statement is captured by the table that it names.
func TestCapturedInheritance(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table parent (id int primary key, v text); create table child (x int, primary key (id)) inherits (parent)`)
		exec(t, conn, `select tide.outbox_capture('parent', 'o')`)
		exec(t, conn, `insert into parent values (1, 'p'); insert into child values (2, 'c', 7)`)
		exec(t, conn, `update parent set v = 'all'`)
		expectEvents(t, conn, "the parent alone", `insert 1 {"v": "p", "id": 1}`, `update 1 {"v": "all", "id": 1}`, `update 2 {"v": "all", "id": 2}`)
		exec(t, conn, `select tide.outbox_capture('child', 'o')`)
		exec(t, conn, `update child set v = 'one'; update parent set v = 'both' where id = 2; delete from parent`)
		expectEvents(t, conn, "the child too", `update 2 {"v": "one", "x": 7, "id": 2}`, `update 2 {"v": "both", "id": 2}`,
			`delete 1 {"v": "all", "id": 1}`, `delete 2 {"v": "both", "id": 2}`)
	})
}

func TestCapturedValuesOfAllKinds(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, major int) {
		exec(t, conn, `create type mood as enum ('sad', 'happy'); create domain positive as int check (value > 0); create type place as (x int, y int)`)
		exec(t, conn, `create table t (id int primary key, twice int generated always as (id * 2) stored, m mood, ms mood[], d positive, p place, tags text[],
			doc jsonb, at timestamptz, b bytea, f float8, i interval, big text, number numeric)`)
		exec(t, conn, `alter table t alter column big set storage external`)
		exec(t, conn, `select tide.outbox_capture('t', 'o')`)
		want := `insert 1 {"b": "\\x01ff", "d": 5, "f": 0.1, "i": "1 mon 02:00:00", "m": "happy", "p": {"x": 1, "y": 2}, "at": "2026-01-02T03:04:05+00:00", "id": 1, "ms": ["sad", "happy"], "big": "z", "doc": {"a": [1]}, "tags": ["x", "y"], "twice": 2, "number": 1.50}`
		insert := `insert into t (id, m, ms, d, p, tags, doc, at, b, f, i, big, number) values (1, 'happy', '{sad,happy}', 5, '(1,2)', '{x,y}', '{"a": [1]}', '2026-01-02 03:04:05+00', '\x01ff', 0.1, '1 mon 2 hours', 'z', 1.50)`
		exec(t, conn, insert)
		expectEvents(t, conn, "values", want)
		// The session's settings change nothing, and are what they were.
		exec(t, conn, `delete from t; begin`)
		captured(t, conn)
		exec(t, conn, `set timezone = 'Asia/Tokyo'; set datestyle = 'German'; set intervalstyle = 'iso_8601'; set extra_float_digits = -10; set bytea_output = 'escape'; set plan_cache_mode = force_custom_plan`)
		exec(t, conn, insert)
		if got := value[string](t, conn, `select concat_ws(' ', current_setting('timezone'), current_setting('datestyle'), current_setting('intervalstyle'), current_setting('extra_float_digits'), current_setting('bytea_output'), current_setting('plan_cache_mode'))`); got != "Asia/Tokyo German, DMY iso_8601 -10 escape force_custom_plan" {
			t.Errorf("the settings are now %s", got)
		}
		exec(t, conn, `commit; set timezone = 'UTC'; reset datestyle; reset bytea_output; reset extra_float_digits; reset intervalstyle`)
		expectEvents(t, conn, "values under other settings", want)
		// What is stored apart and not touched by an update is there nevertheless.
		exec(t, conn, `update t set big = repeat('toast', 100000)`)
		captured(t, conn)
		exec(t, conn, `update t set d = 6`)
		if got := value[bool](t, conn, `select payload ->> 'big' = repeat('toast', 100000) and payload ->> 'd' = '6' from tide.outbox_event order by id desc limit 1`); !got {
			t.Error("a value that was stored apart is not whole")
		}
		if major >= 18 {
			exec(t, conn, `create table v (id int primary key, stored int generated always as (id * 2) stored, computed int generated always as (id * 3) virtual); select tide.outbox_capture('v', 'o', '{"old_values": true}')`)
			captured(t, conn)
			exec(t, conn, `insert into v values (1); update v set id = 2; select tide.outbox_capture_backfill('v')`)
			expectEvents(t, conn, "generated columns", `insert 1 {"id": 1, "stored": 2}`, `delete 1 {"id": 1, "stored": 2} {"new_key": "2"}`, `insert 2 {"id": 2, "stored": 4} {"old_key": "1"}`, `read 2 {"id": 2, "stored": 4}`)
			refused(t, conn, `select tide.outbox_capture('v', 'o', '{"mask": ["computed"]}')`, "42703", "generated and not stored")
		}
	})
}

// A column that is called as something within the trigger confuses nothing.
func TestCapturedColumnsOfAnyName(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o')`)
	names := strings.Fields(`n t r u k e key old new op payload capture names rows row_sql tide_rows tide_old part stream headers operation step one outbox options`)
	exec(t, conn, `create table t (id int primary key, "`+strings.Join(names, `" int default 1, "`)+`" int default 1)`)
	for _, options := range []string{`{}`, `{"mask": ["n"]}`, `{"when": "$.n == 1"}`, `{"key": ["key", "op"]}`} {
		exec(t, conn, `select tide.outbox_capture('t', 'o', $1)`, options)
		exec(t, conn, `insert into t values (1), (2); update t set n = 1; delete from t; insert into t values (3); select tide.outbox_capture_backfill('t'); delete from t`)
		if got := value[int](t, conn, `select count(*) from (select from tide.outbox_event where (select count(*) from jsonb_object_keys(payload)) = $1::int + 1 and key is not null order by id desc limit 9) e`, len(names)); got != 9 {
			t.Errorf("%s: %d events are whole, want 9", options, got)
		}
	}
}

func TestCapturedCommandsThatDoMoreThanOne(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, major int) {
		exec(t, conn, `create table t (id int primary key, v text); select tide.outbox_capture('t', 'o')`)
		exec(t, conn, `insert into t values (1, 'a')`)
		captured(t, conn)
		exec(t, conn, `insert into t values (1, 'b'), (2, 'c') on conflict (id) do update set v = excluded.v`)
		exec(t, conn, `insert into t values (1, 'z') on conflict do nothing`)
		expectEvents(t, conn, "on conflict", `update 1 {"v": "b", "id": 1}`, `insert 2 {"v": "c", "id": 2}`)
		if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader("3\tcopied\n4\ttoo\n"), `copy t from stdin`); err != nil {
			t.Fatal(err)
		}
		expectEvents(t, conn, "copy", `insert 3 {"v": "copied", "id": 3}`, `insert 4 {"v": "too", "id": 4}`)
		exec(t, conn, `with d as (delete from t where id = 3 returning id), u as (update t set v = 'u' where id = 4) insert into t select 5, 'w' from d`)
		got := captured(t, conn)
		if len(got) != 3 || !strings.Contains(strings.Join(got, "|"), `delete 3`) || !strings.Contains(strings.Join(got, "|"), `update 4 {"v": "u", "id": 4}`) || !strings.Contains(strings.Join(got, "|"), `insert 5`) {
			t.Errorf("with: %q", got)
		}
		if major < 15 {
			return
		}
		exec(t, conn, `merge into t using (values (1, 'm'), (2, null), (6, 'new')) s (id, v) on s.id = t.id
			when matched and s.v is null then delete when matched then update set v = s.v when not matched then insert values (s.id, s.v)`)
		got = captured(t, conn)
		for _, want := range []string{`update 1 {"v": "m", "id": 1}`, `delete 2 {"v": "c", "id": 2}`, `insert 6 {"v": "new", "id": 6}`} {
			if len(got) != 3 || !strings.Contains(strings.Join(got, "|"), want) {
				t.Errorf("merge: %q, want %s", got, want)
			}
		}
	})
}

func TestCapturedCascades(t *testing.T) {
	both(t, func(t *testing.T, conn *pgx.Conn, _ int) {
		exec(t, conn, `create table a (id int primary key);
			create table b (id int primary key, a int references a on delete cascade on update cascade);
			create table c (id int primary key, a int references a on delete set null);
			create table tree (id int primary key, up int references tree on delete cascade on update cascade)`)
		exec(t, conn, `insert into a values (1), (2); insert into b values (1, 1), (2, 1); insert into c values (1, 2); insert into tree values (1, null), (2, 1), (3, 2)`)
		exec(t, conn, `select tide.outbox_capture('b', 'o'), tide.outbox_capture('c', 'o'), tide.outbox_capture('tree', 'o')`)
		exec(t, conn, `update a set id = 10 where id = 1; delete from a`)
		expectEvents(t, conn, "cascades", `update 1 {"a": 10, "id": 1}`, `update 2 {"a": 10, "id": 2}`,
			`delete 1 {"a": 10, "id": 1}`, `delete 2 {"a": 10, "id": 2}`, `update 1 {"a": null, "id": 1}`)
		exec(t, conn, `update tree set id = 5 where id = 1`)
		expectEvents(t, conn, "a table that refers to itself", `delete 1 {"id": 1, "up": null} {"new_key": "5"}`, `insert 5 {"id": 5, "up": null} {"old_key": "1"}`, `update 2 {"id": 2, "up": 5}`)
		exec(t, conn, `delete from tree where id = 5`)
		expectEvents(t, conn, "and deletes", `delete 5 {"id": 5, "up": null}`, `delete 2 {"id": 2, "up": 5}`, `delete 3 {"id": 3, "up": 2}`)
	})
}

// As for any ordinary trigger: not in a session that replays another's changes.
func TestNothingIsCapturedOfWhatAReplicaApplies(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o'); create table t (id int primary key); select tide.outbox_capture('t', 'o')`)
	exec(t, conn, `set session_replication_role = replica; insert into t values (1); truncate t; reset session_replication_role`)
	expectEvents(t, conn, "as a replica")
	exec(t, conn, `alter table t enable always trigger tide_capture_insert; alter table t enable always trigger tide_capture_began; set session_replication_role = replica; insert into t values (2); reset session_replication_role`)
	expectEvents(t, conn, "always", `insert 2 {"id": 2}`)
	exec(t, conn, `alter table t disable trigger tide_capture_insert`)
	if got := value[string](t, conn, `select state || ': ' || reason from tide.outbox_captures`); !strings.HasPrefix(got, "stopped: triggers of the table are disabled") {
		t.Errorf("listed as %s", got)
	}
}
