package schema_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// placeExtension writes the extension's files into the server's own share directory.
func placeExtension(t testing.TB, major int) {
	t.Helper()
	dir := filepath.Join(pgtest.Server(t, major).ShareDir, "extension")
	all, err := schema.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// embedded is a database with the schema installed by schema.Install.
func embedded(t testing.TB, major int) *pgx.Conn {
	t.Helper()
	return pgtest.Conn(t, pgtest.DatabaseFrom(t, major, "embedded", func(dsn string) error {
		return withConn(t.Context(), dsn, schema.Install)
	}))
}

func withConn(ctx context.Context, dsn string, do func(context.Context, *pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return do(ctx, conn)
}

// extension is a database with the extension created.
func extension(t testing.TB, major int) *pgx.Conn {
	t.Helper()
	placeExtension(t, major)
	conn := pgtest.Conn(t, pgtest.Database(t, major))
	exec(t, conn, "create extension pg_tide")
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func value[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func column[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return found
}
