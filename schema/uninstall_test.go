package schema_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

// strangersSQL lists every object outside the system's schemas and tide.
const strangersSQL = `
	select format('%s %s', classid::regclass, coalesce(i.identity, objid::text)) as line
	from (
		select 'pg_class'::regclass as classid, oid as objid from pg_class
		union all select 'pg_proc'::regclass, oid from pg_proc
		union all select 'pg_type'::regclass, oid from pg_type
		union all select 'pg_namespace'::regclass, oid from pg_namespace
		union all select 'pg_extension'::regclass, oid from pg_extension
		union all select 'pg_constraint'::regclass, oid from pg_constraint
		union all select 'pg_policy'::regclass, oid from pg_policy
		union all select 'pg_attrdef'::regclass, oid from pg_attrdef
	) o, pg_identify_object(o.classid, o.objid, 0) i
	where o.objid >= 16384 or o.classid = 'pg_namespace'::regclass
	order by line`

func TestUninstallLeavesNothingOfOursAndEverythingOfOthers(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		for way, install := range bothWays() {
			t.Run(way, func(t *testing.T) {
				conn := pgtest.Conn(t, pgtest.Database(t, major))
				exec(t, conn, `create table orders (id text primary key)`)
				exec(t, conn, `create function ship() returns int language sql as 'select 1'`)
				before := column[string](t, conn, strangersSQL)
				install(t, conn, major)
				fill(t, conn)

				_, err := schema.Uninstall(t.Context(), conn, schema.Options{})
				var data *schema.DataError
				if !errors.As(err, &data) {
					t.Fatalf("with data it says: %v", err)
				}
				expectError(t, err, "1 outbox with 20 events, 1 inbox with 20 messages, 2 pipelines, 1 dead letter", "--yes")
				if err := schema.Verify(t.Context(), conn); err != nil {
					t.Fatalf("after the refusal: %v", err)
				}

				exec(t, conn, `create view waiting as select id from tide."payment_triggers_inbox"`)
				_, err = schema.Uninstall(t.Context(), conn, schema.Options{DropData: true})
				expectError(t, err, "depends on", "waiting")
				exec(t, conn, `drop view waiting`)

				removed, err := schema.Uninstall(t.Context(), conn, schema.Options{DropData: true})
				if err != nil || removed.Events != 20 {
					t.Fatalf("removed %+v, %v", removed, err)
				}
				sameCatalog(t, "uninstalled", column[string](t, conn, strangersSQL), before)
				if n := value[int](t, conn, `select count(*) from pg_roles where rolname like 'tide\_%'`); n < 6 {
					t.Errorf("%d roles are left, want the 6", n)
				}
				removed, err = schema.Uninstall(t.Context(), conn, schema.Options{})
				if err != nil || removed.Version != "" {
					t.Errorf("again: %+v, %v", removed, err)
				}
				install(t, conn, major)
			})
		}
	})
}

func TestUninstallLeavesASchemaThatOthersUse(t *testing.T) {
	conn := embeddedAlone(t, 0)
	exec(t, conn, `create table tide.tables_of_the_moon (high real)`)
	if _, err := schema.Uninstall(t.Context(), conn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := column[string](t, conn, `select relname::text from pg_class where relnamespace = 'tide'::regnamespace`); len(got) != 1 {
		t.Errorf("left are %q", got)
	}
}

// bothWays are the two ways to install, into a database that is there.
func bothWays() map[string]func(*testing.T, *pgx.Conn, int) {
	return map[string]func(*testing.T, *pgx.Conn, int){
		"command": func(t *testing.T, conn *pgx.Conn, _ int) {
			if err := schema.Install(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
		},
		"extension": func(t *testing.T, conn *pgx.Conn, major int) {
			placeExtension(t, major)
			exec(t, conn, `create extension pg_tide`)
		},
	}
}
