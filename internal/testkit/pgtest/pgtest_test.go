package pgtest_test

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEveryTestHasItsOwnDatabase(t *testing.T) {
	first := pgtest.Pool(t, pgtest.Database(t, 0))
	if _, err := first.Exec(t.Context(), "create table only_here ()"); err != nil {
		t.Fatal(err)
	}
	second := pgtest.Pool(t, pgtest.Database(t, 0))
	if _, err := second.Exec(t.Context(), "create table only_here ()"); err != nil {
		t.Fatal(err)
	}
}

func TestTemplateIsPreparedOnce(t *testing.T) {
	prepared := 0
	prepare := func(dsn string) error {
		prepared++
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			return err
		}
		_, err = conn.Exec(t.Context(), "create table filled as select 42 as answer")
		return errors.Join(err, conn.Close(t.Context()))
	}
	for range 3 {
		conn := pgtest.Conn(t, pgtest.DatabaseFrom(t, 0, "filled", prepare))
		var answer int
		if err := conn.QueryRow(t.Context(), "select answer from filled").Scan(&answer); err != nil || answer != 42 {
			t.Fatalf("got %d, %v", answer, err)
		}
	}
	if prepared != 1 {
		t.Fatalf("prepared %d times", prepared)
	}
}

func TestDatabaseGoesWithItsTest(t *testing.T) {
	var dsn string
	t.Run("user", func(t *testing.T) {
		dsn = pgtest.Database(t, 0)
		conn, err := pgx.Connect(t.Context(), dsn) // left open on purpose
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	})
	if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
		t.Fatal("the database is still there", conn.Close(t.Context()))
	}
}

func TestEveryMajorStarts(t *testing.T) {
	pgtest.Each(t, pgtest.All(), func(t *testing.T, major int) {
		conn := pgtest.Conn(t, pgtest.Database(t, major))
		var number int
		if err := conn.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&number); err != nil {
			t.Fatal(err)
		}
		if number/10000 != major || pgtest.Server(t, major).Major != major {
			t.Fatalf("asked for %d and got %d", major, number)
		}
	})
}

func TestOwnServerComesBackAfterAKill(t *testing.T) {
	server := pgtest.Own(t, throwaway.Options{})
	conn := pgtest.Conn(t, server.DSN("postgres"))
	if _, err := conn.Exec(t.Context(), "create table kept as select 1"); err != nil {
		t.Fatal(err)
	}
	if err := server.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Fatal("the session survived")
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := pgtest.Conn(t, server.DSN("postgres")).Exec(t.Context(), "table kept"); err != nil {
		t.Fatal(err)
	}
}

func TestClientToolsWork(t *testing.T) {
	dump, ok := throwaway.Tool(t.Context(), "pg_dump", pgtest.Oldest)
	if !ok {
		t.Skip("no pg_dump on this machine")
	}
	if out, err := exec.Command(dump, pgtest.Database(t, pgtest.Oldest)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
