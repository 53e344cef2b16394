package pgtest

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// Utility statements take no parameters; names are filled in, quoted.
var (
	//go:embed create_database.sql
	createDatabaseSQL string
	//go:embed drop_database.sql
	dropDatabaseSQL string
	//go:embed freeze_template.sql
	freezeTemplateSQL string
)

// maintenance is where databases are created and dropped from.
const maintenance = "postgres"

// statementTimeout bounds the creation or removal of a database.
const statementTimeout = time.Minute

// numbers makes the names of databases differ.
var numbers atomic.Int64

// template is a prepared database that others are cloned from.
type template struct {
	once sync.Once
	name string
	err  error
}

// Database makes an empty database for this test and returns how to reach it
// as the superuser. It is dropped at the test's end, whoever is connected.
func Database(t testing.TB, major int) (dsn string) {
	t.Helper()
	return clone(t, shared.get(t, major).Server, "template1")
}

// DatabaseFrom makes a database for this test that is a copy of one which
// prepare filled; prepare runs once for each process, major and name. It must
// close its connections.
func DatabaseFrom(t testing.TB, major int, name string, prepare func(dsn string) error) (dsn string) {
	t.Helper()
	one := shared.get(t, major)
	one.mu.Lock()
	from := one.templates[name]
	if from == nil {
		from = &template{}
		one.templates[name] = from
	}
	one.mu.Unlock()
	from.once.Do(func() {
		ctx := context.WithoutCancel(t.Context())
		from.name = databaseName("template " + name)
		from.err = makeTemplate(ctx, one.Server, from.name, prepare)
	})
	if from.err != nil {
		t.Fatalf("prepare the template database %q: %v", name, from.err)
	}
	return clone(t, one.Server, from.name)
}

func makeTemplate(ctx context.Context, server *throwaway.Server, name string, prepare func(dsn string) error) error {
	if err := execute(ctx, server, fmt.Sprintf(createDatabaseSQL, quoted(name), quoted("template1"))); err != nil {
		return err
	}
	if err := prepare(server.DSN(name)); err != nil {
		return err
	}
	// Nobody may connect any more: a session would keep it from being cloned.
	return execute(ctx, server, fmt.Sprintf(freezeTemplateSQL, quoted(name)))
}

func clone(t testing.TB, server *throwaway.Server, from string) (dsn string) {
	t.Helper()
	name := databaseName(t.Name())
	if err := execute(t.Context(), server, fmt.Sprintf(createDatabaseSQL, quoted(name), quoted(from))); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		if err := execute(context.Background(), server, fmt.Sprintf(dropDatabaseSQL, quoted(name))); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return server.DSN(name)
}

// execute runs one statement over the socket, where connecting is cheapest.
func execute(ctx context.Context, server *throwaway.Server, statement string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, statementTimeout, fmt.Errorf("timed out after %s", statementTimeout))
	defer cancel()
	conn, err := pgx.Connect(ctx, server.SocketDSN(maintenance))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	if closeErr := conn.Close(ctx); err == nil {
		err = closeErr
	}
	return err
}

// databaseName tells in a process list which test a session belongs to.
func databaseName(test string) string {
	const most = 40
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, test)
	if len(name) > most {
		name = name[len(name)-most:]
	}
	return fmt.Sprintf("t%d_%s", numbers.Add(1), name)
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// Pool connects to dsn until the end of the test.
func Pool(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatalf("open a pool: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Conn opens one session on dsn until the end of the test.
func Conn(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		_ = conn.Close(context.Background()) // the test may have cut it
	})
	return conn
}
