package tidetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/schema"
)

// T is what is used of a *testing.T, *testing.B or *testing.F.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	Context() context.Context
}

// Patience is how long the waiting functions wait before the test fails.
const Patience = 30 * time.Second

// DB is a database with the schema tide.
type DB struct {
	// Pool is connected to it until the end of the test.
	Pool *pgxpool.Pool
	// DSN is how to reach it.
	DSN string
	t   T
}

// Open makes a database for this test on the server that dsn reaches, installs
// the schema tide, and drops the database at the test's end, whoever is
// connected. The role needs the right to create databases.
func Open(t T, dsn string) *DB {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("read the DSN: %v", err)
	}
	name := "tidetest_" + strings.ToLower(rand.Text()[:12])
	if err := run(t.Context(), config, "create database "+name); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience) // the test's own has ended
		defer cancel()
		if err := run(ctx, config, "drop database if exists "+name+" with (force)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	own := config.Copy()
	own.Database = name
	conn, err := pgx.ConnectConfig(t.Context(), own)
	if err != nil {
		t.Fatalf("connect to the test's database: %v", err)
	}
	err = schema.Install(t.Context(), conn)
	if closeErr := conn.Close(t.Context()); err == nil {
		err = closeErr
	}
	if err != nil {
		t.Fatalf("install the schema: %v", err)
	}
	pooled, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("read the DSN: %v", err)
	}
	pooled.ConnConfig.Database = name
	pool, err := pgxpool.NewWithConfig(t.Context(), pooled)
	if err != nil {
		t.Fatalf("open a pool: %v", err)
	}
	t.Cleanup(pool.Close)
	return &DB{Pool: pool, DSN: withDatabase(dsn, name), t: t}
}

// Use makes a DB of a pool whose database has the schema tide already.
func Use(t T, pool *pgxpool.Pool) *DB {
	return &DB{Pool: pool, DSN: pool.Config().ConnString(), t: t}
}

// Exec runs a statement and fails the test when it fails.
func (db *DB) Exec(statement string, args ...any) {
	db.t.Helper()
	if _, err := db.Pool.Exec(db.t.Context(), statement, args...); err != nil {
		db.t.Fatalf("%s: %v", statement, err)
	}
}

func run(ctx context.Context, config *pgx.ConnConfig, statement string) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	if closeErr := conn.Close(ctx); err == nil {
		err = closeErr
	}
	return err
}

// withDatabase is the DSN of another database: of a URL the path is replaced,
// and of libpq's key=value form the last word counts.
func withDatabase(dsn, name string) string {
	scheme, rest, isURL := strings.Cut(dsn, "://")
	if !isURL {
		return strings.TrimSpace(dsn + " dbname=" + name)
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	authority, _, _ := strings.Cut(rest, "/")
	changed := fmt.Sprintf("%s://%s/%s", scheme, authority, name)
	if hasQuery {
		changed += "?" + query
	}
	return changed
}
