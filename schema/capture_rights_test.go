package schema_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

// Capturing needs the table and tide's administration; writing needs neither.
func TestWhoMayCaptureAndWhoIsCaptured(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		for way, install := range map[string]func(testing.TB, int) *pgx.Conn{"command": embeddedAlone, "extension": extension} {
			t.Run(way, func(t *testing.T) {
				conn := install(t, major)
				exec(t, conn, `select tide.outbox_create('o'); create schema app`)
				owner, asOwner := asRole(t, conn, "")
				admin, asAdmin := asRole(t, conn, "in role tide_admin")
				_, asWriter := asRole(t, conn, "")
				exec(t, conn, `grant usage, create on schema app to public; create table app.t (id int primary key, v text); alter table app.t owner to `+owner)
				exec(t, asOwner, `grant insert, update, delete, truncate, trigger, select on app.t to public`)

				// The owner has no role of tide, the administrator not the table.
				denied(t, asOwner, `select tide.outbox_capture('app.t', 'o')`)
				_, err := asAdmin.Exec(t.Context(), `select tide.outbox_capture('app.t', 'o')`)
				expectError(t, err, "does not own it", admin)
				exec(t, conn, `grant `+owner+` to `+admin)
				exec(t, asAdmin, `select tide.outbox_capture('app.t', 'o')`)
				for _, as := range []*pgx.Conn{asOwner, asWriter} {
					exec(t, as, `insert into app.t values (1, 'x'); update app.t set v = 'y'; delete from app.t`)
					expectEventsOf(t, conn, `insert 1 {"v": "x", "id": 1}`, `update 1 {"v": "y", "id": 1}`, `delete 1 {"v": "y", "id": 1}`)
					// and it lets nobody do more
					denied(t, as, `select tide.outbox_publish('o', '{}'::jsonb)`)
					denied(t, as, `select * from tide.outbox_event`)
					denied(t, as, `select tide.outbox_capture_drop('app.t')`)
					denied(t, as, `select * from tide.outbox_capture_backfill('app.t')`)
				}
				// Nobody else binds the triggers' functions to a table of their own.
				id := value[string](t, conn, `select id::text from tide.outbox_capture`)
				exec(t, asWriter, `create table app.mine (id int primary key)`)
				for _, table := range []string{"app.mine", "app.t"} {
					denied(t, asWriter, `create trigger forged after insert on `+table+` referencing new table as tide_rows for each statement execute function tide.outbox_capture_changed('`+id+`')`)
					denied(t, asWriter, `create trigger forged after truncate on `+table+` for each statement execute function tide.outbox_capture_truncated('`+id+`')`)
				}
				exec(t, asAdmin, `insert into app.t values (1); select * from tide.outbox_capture_backfill('app.t'); select tide.outbox_capture_drop('app.t')`)
				expectEventsOf(t, conn, `insert 1 {"v": null, "id": 1}`, `read 1 {"v": null, "id": 1}`)
			})
		}
	})
}

// expectEventsOf is expectEvents without the position, for connections that
// are shared: it removes what it has seen.
func expectEventsOf(t testing.TB, conn *pgx.Conn, want ...string) {
	t.Helper()
	expectEvents(t, conn, "as a role", want...)
}

// Who owns a table's types can make them run code when they become JSON. It
// must not run with the rights of the triggers' owner, here a superuser.
func TestATablesOwnerRunsNoCodeAsTheTriggersOwner(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		exec(t, conn, `select tide.outbox_create('o'); create schema app; grant usage, create on schema app to public`)
		_, as := asRole(t, conn, "")
		exec(t, as, `create type app.mood as enum ('sad', 'happy'); create type app.point as (x int, m app.mood); create domain app.dom as app.mood; create type app.plain as (x int)`)
		if major >= 14 {
			exec(t, as, `create type app.span as range (subtype = int4)`)
		}
		exec(t, as, `create table app.trace (who text)`)
		exec(t, as, `create table app.t (id int primary key, m app.mood, ms app.mood[], p app.point, ps app.point[], d app.dom, s app.span, c app.plain, v text)`)
		exec(t, conn, `select tide.outbox_capture('app.t', 'o', '{"old_values": true, "when": "$.v != \"skip\""}')`)
		const row = `(1, 'sad', '{sad,happy}', '(1,sad)', '{"(2,happy)"}', 'sad', '[1,5)', '(3)', 'x')`
		exec(t, as, `insert into app.t values `+row)
		honest := captured(t, conn)
		want := `insert 1 {"c": "(3)", "d": "sad", "m": "sad", "p": "(1,sad)", "s": "[1,5)", "v": "x", "id": 1, "ms": ["sad", "happy"], "ps": ["(2,happy)"]}`
		if strings.Join(honest, "|") != want {
			t.Errorf("before: %q, want %s", honest, want)
		}
		// Casts to json and to text, operators, a path, tables of the triggers' names: all say who runs them.
		for _, typ := range []string{"mood", "point", "span", "plain"} {
			name := "app.tell_" + typ
			exec(t, as, `create function `+name+`(app.`+typ+`) returns json language plpgsql as $$ begin insert into app.trace values (current_user || ' json'); return '"evil"'::json; end $$`)
			exec(t, as, `create cast (app.`+typ+` as json) with function `+name+`(app.`+typ+`) as implicit`)
			exec(t, as, `create function `+name+`_text(app.`+typ+`) returns text language plpgsql as $$ begin insert into app.trace values (current_user || ' text'); return 'evil'; end $$`)
			exec(t, as, `create cast (app.`+typ+` as text) with function `+name+`_text(app.`+typ+`) as implicit`)
		}
		exec(t, as, `create function app.eq(jsonb, text[]) returns jsonb language plpgsql as $$ begin insert into app.trace values (current_user || ' operator'); return null; end $$; create operator app.- (function = app.eq, leftarg = jsonb, rightarg = text[])`)
		exec(t, as, `create function app.to_jsonb(anyelement) returns jsonb language plpgsql as $$ begin insert into app.trace values (current_user || ' function'); return null; end $$`)
		exec(t, as, `set search_path = app, pg_catalog; create temporary table tide_rows (id int); create temporary table tide_old (id int); create temporary table outbox_event (id int)`)
		exec(t, as, `delete from app.t; insert into app.t values `+row+`; update app.t set v = 'y'; update app.t set id = 2`)
		got := captured(t, conn)
		if len(got) != 5 || got[1] != want || strings.Contains(strings.Join(got, ""), "evil") {
			t.Errorf("events %q", got)
		}
		exec(t, conn, `create role as_admin_too login superuser; set role as_admin_too`)
		exec(t, conn, `select tide.outbox_capture_backfill('app.t'); reset role; drop role as_admin_too`)
		if got := captured(t, conn); len(got) != 1 || strings.Contains(got[0], "evil") {
			t.Errorf("backfill %q", got)
		}
		if who := column[string](t, conn, `select who from app.trace`); len(who) > 0 {
			t.Errorf("code of the table's owner ran: %q", who)
		}
		// The test can fail: outside of the triggers the cast does run.
		exec(t, as, `select pg_catalog.to_jsonb(m) from app.t`)
		if value[int](t, conn, `select count(*) from app.trace`) == 0 {
			t.Error("the cast to json is not called at all")
		}
	})
}

// The schema's owner may be no superuser, and of any name; its own types are
// trusted, an application's are not.
func TestAnOwnerWithoutSuperuserCaptures(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := pgtest.Conn(t, pgtest.Database(t, major))
		name, _ := asRole(t, conn, "")
		owner := `"Odd ` + name + `"`
		exec(t, conn, `alter role `+name+` rename to `+owner)
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			_, _ = conn.Exec(ctx, `reset role; drop owned by `+owner+` cascade; alter role `+owner+` rename to `+name)
		})
		exec(t, conn, `grant create on database `+conn.Config().Database+` to `+owner+`; set role `+owner)
		if err := schema.Install(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		exec(t, conn, `create schema app; create type app.mood as enum ('sad'); create type app.place as (x int); create table app.t (id int primary key, m app.mood, p app.place); select tide.outbox_create('o'), tide.outbox_capture('app.t', 'o')`)
		_, as := asRole(t, another(t, conn), "")
		exec(t, conn, `grant usage on schema app to public; grant all on app.t to public`)
		exec(t, as, `insert into app.t values (1, 'sad', '(7)')`)
		expectEvents(t, conn, "written by a stranger", `insert 1 {"m": "sad", "p": {"x": 7}, "id": 1}`)
		exec(t, conn, `alter table app.t drop column p; insert into app.t values (2, 'sad')`)
		expectEvents(t, conn, "with an enumeration", `insert 2 {"m": "sad", "id": 2}`)
		exec(t, conn, `reset role`)
	})
}

// another is another connection to the same database, as the superuser.
func another(t testing.TB, conn *pgx.Conn) *pgx.Conn {
	return pgtest.Conn(t, conn.Config().ConnString())
}

// Policies hide rows from the writer, not from the events.
func TestPoliciesDoNotHideRowsFromEvents(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o'); create table t (id int primary key, v text); alter table t enable row level security; create policy p on t using (id < 3)`)
	writer, as := asRole(t, conn, "")
	exec(t, conn, `grant all on t to `+writer+`; insert into t values (3, 'hidden'); select tide.outbox_capture('t', 'o')`)
	exec(t, as, `insert into t values (1, 'a'); update t set v = 'b'`)
	expectEvents(t, conn, "policies", `insert 1 {"v": "a", "id": 1}`, `update 1 {"v": "b", "id": 1}`)
	exec(t, conn, `select tide.outbox_capture_backfill('t')`)
	expectEvents(t, conn, "the backfill reads all", `read 1 {"v": "b", "id": 1}`, `read 3 {"v": "hidden", "id": 3}`)
	// An owner whom policies bind is told, and reads no part of the table only.
	owner, asOwner := asRole(t, conn, "in role tide_admin")
	exec(t, conn, `alter table t owner to `+owner+`; alter table t force row level security`)
	_, err := asOwner.Exec(t.Context(), `select tide.outbox_capture_backfill('t', restart => true)`)
	expectError(t, err, "row-level security")
	exec(t, conn, `alter table t owner to postgres`)
}

// The trusted extension's functions belong to a superuser, the creator is none.
func TestTheExtensionsCreatorCaptures(t *testing.T) {
	placeExtension(t, 0)
	conn := pgtest.Conn(t, pgtest.Database(t, 0))
	creator, as := asRole(t, conn, "")
	exec(t, conn, `grant create on database `+conn.Config().Database+` to `+creator)
	exec(t, as, `create extension pg_tide; create schema mine; create table mine.t (id int primary key); select tide.outbox_create('o')`)
	exec(t, as, `select tide.outbox_capture('mine.t', 'o'); insert into mine.t values (1)`)
	expectEvents(t, conn, "the creator", `insert 1 {"id": 1}`)
	exec(t, as, `drop table mine.t`)
}

func TestCapturesSurviveAnUpgradeAndEndWithTheSchema(t *testing.T) {
	for way, install := range bothWays() {
		t.Run(way, func(t *testing.T) {
			conn := pgtest.Conn(t, pgtest.Database(t, 0))
			exec(t, conn, `create table t (id int primary key); create table p (id int primary key) partition by range (id); create table p1 partition of p for values from (0) to (9)`)
			before := column[string](t, conn, strangersSQL)
			install(t, conn, pgtest.Default(t.Context()))
			exec(t, conn, `select tide.outbox_create('o'); select tide.outbox_capture('t', 'o'), tide.outbox_capture('p', 'o')`)
			if err := schema.Install(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			exec(t, conn, `insert into t values (1)`)
			expectEvents(t, conn, "installed again", `insert 1 {"id": 1}`)
			if way == "extension" {
				// By hand: refused, and says by what.
				_, err := conn.Exec(t.Context(), `drop extension pg_tide`)
				if e := pgError(err); e == nil || e.Code != "2BP01" || !strings.Contains(e.Detail, "tide_capture_insert on table t") {
					t.Errorf("drop extension: %v", err)
				}
			}
			_, err := schema.Uninstall(t.Context(), conn, schema.Options{})
			expectError(t, err, "1 outbox with 1 event", "captures of 2 tables", "--yes")
			removed, err := schema.Uninstall(t.Context(), conn, schema.Options{DropData: true})
			if err != nil || removed.Captures != 2 {
				t.Fatalf("removed %+v, %v", removed, err)
			}
			exec(t, conn, `insert into t values (2); insert into p values (2); truncate t`)
			sameCatalog(t, "uninstalled", column[string](t, conn, strangersSQL), before)
			if n := value[int](t, conn, `select count(*) from pg_trigger where not tgisinternal`); n != 0 {
				t.Errorf("%d triggers are left", n)
			}
		})
	}
}

func TestDumpAndRestoreKeepCapturing(t *testing.T) {
	dump, restore := dumpTools(t)
	source := pgtest.Default(t.Context())
	for way, install := range map[string]func(testing.TB, int) *pgx.Conn{"command": embeddedAlone, "extension": extension} {
		t.Run(way, func(t *testing.T) {
			from := install(t, source)
			exec(t, from, `select tide.outbox_create('o'); create table "Odd table" (id int primary key, gone int, email text); alter table "Odd table" drop column gone;
				insert into "Odd table" select n, 'a@b' from generate_series(1, 5) n`)
			exec(t, from, `select tide.outbox_capture('"Odd table"', 'o', '{"mask": ["email"]}'); select tide.outbox_capture_backfill('"Odd table"', 2)`)
			file := t.TempDir() + "/dump"
			tool(t, dump, "--format=custom", "--file="+file, "--dbname="+from.Config().ConnString())
			placeExtension(t, source)
			to := pgtest.Conn(t, pgtest.Database(t, source))
			tool(t, restore, "--exit-on-error", "--dbname="+to.Config().ConnString(), file)
			captured(t, to)
			exec(t, to, `insert into "Odd table" values (6, 'a@b')`)
			exec(t, to, `select tide.outbox_capture_backfill('"Odd table"', 2)`)
			expectEvents(t, to, "restored", `insert 6 {"id": 6, "email": "***"}`, `read 3 {"id": 3, "email": "***"}`, `read 4 {"id": 4, "email": "***"}`)
			if got := value[string](t, to, `select state from tide.outbox_captures`); got != "capturing" {
				t.Errorf("listed as %s", got)
			}
			exec(t, to, `alter table "Odd table" rename email to mail`)
			refused(t, to, `insert into "Odd table" values (7)`, "42703", `column "email"`)
		})
	}
}

// A table that was restored without tide's rows says so, and publishes nowhere else.
func TestTriggersWithoutTheirCaptureSaySo(t *testing.T) {
	conn := embedded(t, 0)
	exec(t, conn, `select tide.outbox_create('o'); create table t (id int primary key); select tide.outbox_capture('t', 'o'); delete from tide.outbox_capture`)
	refused(t, conn, `insert into t values (1)`, "55000", `"public.t"`, "not in tide.outbox_capture", "outbox_capture_drop")
	refused(t, conn, `truncate t`, "55000", "not in tide.outbox_capture")
	exec(t, conn, `select tide.outbox_capture('t', 'o'); insert into t values (1)`)
	expectEvents(t, conn, "captured again", `insert 1 {"id": 1}`)
	exec(t, conn, `delete from tide.outbox_capture; select tide.outbox_capture_drop('t'); insert into t values (2)`)
}
