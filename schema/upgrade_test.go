package schema_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

func TestUpgradeFromEachReleasedVersionKeepsRowsAndEndsInTheSameCatalog(t *testing.T) {
	pgtest.Each(t, pgtest.All(), func(t *testing.T, major int) {
		fresh := embeddedAlone(t, major)
		fill(t, fresh)
		want := catalog(t, fresh)
		for _, version := range schema.Released() {
			t.Run("command from "+version, func(t *testing.T) {
				conn := pgtest.Conn(t, pgtest.Database(t, major))
				if err := schema.InstallReleased(t.Context(), conn, version); err != nil {
					t.Fatal(err)
				}
				upgradeFilled(t, conn, version, want)
			})
			t.Run("extension from "+version, func(t *testing.T) {
				placeExtension(t, major)
				conn := pgtest.Conn(t, pgtest.Database(t, major))
				exec(t, conn, `create extension pg_tide version '`+version+`'`)
				upgradeFilled(t, conn, version, want)
			})
		}
	})
}

func upgradeFilled(t *testing.T, conn *pgx.Conn, version string, want []string) {
	t.Helper()
	fill(t, conn)
	rows := column[string](t, conn, everyRow)
	var wrong *schema.VersionError
	if err := schema.Verify(t.Context(), conn); !errors.As(err, &wrong) || wrong.Found != version || wrong.Remedy == "" {
		t.Errorf("before the upgrade Verify says: %v", err)
	}
	if err := schema.Upgrade(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if got, err := schema.Version(t.Context(), conn); err != nil || got != schema.Current {
		t.Errorf("version %q, %v", got, err)
	}
	sameCatalog(t, "upgraded", catalog(t, conn), want)
	if got := column[string](t, conn, everyRow); strings.Join(got, "\n") != strings.Join(rows, "\n") {
		t.Errorf("rows after the upgrade:\n%s\nbefore:\n%s", strings.Join(got, "\n"), strings.Join(rows, "\n"))
	}
	exec(t, conn, `select tide.outbox_publish('order_events', '{}'::jsonb)`)
}

func TestVerifySaysWhatIsMissingOrNewer(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.Database(t, 0))
	expectError(t, schema.Verify(t.Context(), conn), "schema tide is not in this database", "pg-tide install")
	if version, err := schema.Version(t.Context(), conn); version != "" || err != nil {
		t.Errorf("version %q, %v of nothing", version, err)
	}
	newer := embeddedAlone(t, 0)
	exec(t, newer, `create or replace function tide.schema_version() returns text language sql as $$ select '99.0' $$`)
	expectError(t, schema.Verify(t.Context(), newer), "99.0", "use a newer pg-tide")
	expectError(t, schema.Install(t.Context(), newer), "99.0", "use a newer pg-tide")
}

func TestInstallRefusesSomebodyElsesSchema(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.Database(t, 0))
	exec(t, conn, `create schema tide create table tables_of_the_moon (high real)`)
	expectError(t, schema.Install(t.Context(), conn), "schema tide exists", "not pg_tide's", "rename or drop it")
	if n := value[int](t, conn, `select count(*) from pg_class where relnamespace = 'tide'::regnamespace`); n != 1 {
		t.Errorf("%d relations are there, want the one", n)
	}
}

func TestExtensionRefusesASchemaThatIsThereAlready(t *testing.T) {
	placeExtension(t, 0)
	conn := embeddedAlone(t, 0)
	_, err := conn.Exec(t.Context(), `create extension pg_tide`)
	expectError(t, err, "installed without the extension")
	other := pgtest.Conn(t, pgtest.Database(t, 0))
	exec(t, other, `create schema tide create table tables_of_the_moon (high real)`)
	_, err = other.Exec(t.Context(), `create extension pg_tide`)
	expectError(t, err, "not pg_tide's")
}

func TestAFailingStatementIsShownWithFileLineAndColumn(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.Database(t, 0))
	err := schema.RunScript(t.Context(), conn, "tables/x.sql", "select 1;\n-- a comment; with a semicolon\n\nselect 'ä',\n  nothing_here;\n")
	expectError(t, err, "tables/x.sql:5:3:", "nothing_here", "42703")
	err = schema.RunScript(t.Context(), conn, "tables/x.sql", "select 1;\n\nselect 1 / 0;")
	expectError(t, err, "tables/x.sql:3:1:", "division by zero")
}

func TestStatementsAreSplitOutsideQuotesCommentsAndBodies(t *testing.T) {
	source := "select ';', $$;$$, $a$;$$;$a$, \"x;\" -- ;\n; /* ; */\ncreate function f() returns int begin atomic select case when true then 1 end; end;\n\nselect 2"
	texts, lines := schema.Statements(source)
	if len(texts) != 3 || lines[0] != 1 || lines[1] != 3 || lines[2] != 5 || texts[2] != "select 2" {
		t.Errorf("%q on lines %v", texts, lines)
	}
}

func expectError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}
