package tide_test

import (
	"bytes"
	"database/sql"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pg-tide/pg-tide/tide/tidetest"
)

// log keeps what is logged, and closes heard when it contains what is wanted.
type log struct {
	mu     sync.Mutex
	text   bytes.Buffer
	wanted string
	heard  chan struct{}
}

func (l *log) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard != nil && l.wanted != "" && strings.Contains(string(p), l.wanted) {
		l.wanted = ""
		close(l.heard)
	}
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func openSQL(t testing.TB, db *tidetest.DB) *sql.DB {
	t.Helper()
	pool := sqlOf(db)
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func sqlOf(db *tidetest.DB) *sql.DB { return stdlib.OpenDB(*db.Pool.Config().ConnConfig) }
