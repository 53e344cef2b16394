// Package traffic makes the load of a torture: publishers whose transactions
// overlap, wait, roll back and are prepared, each writing into a ledger what
// it published; workers that process inboxes and crash; transactions that
// stay open. It judges nothing.
package traffic

import (
	"context"
	"embed"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// query returns the statement of that name. The files are part of the
// program, so a missing one is found by the first test that runs.
func query(name string) string {
	text, err := queryFiles.ReadFile("queries/" + name + ".sql")
	if err != nil {
		return fmt.Sprintf("-- no statement %q", name)
	}
	return string(text)
}

// The names under which sessions show up in pg_stat_activity.
const (
	PublisherName = "torture-publisher"
	WorkerName    = "torture-worker"
	strangerName  = "torture-stranger"
)

const (
	connectTimeout = 5 * time.Second
	// reconnectPause is what a client waits before it tries again.
	reconnectPause = 100 * time.Millisecond
	// statementTimeout bounds each statement of a publisher or worker, so that
	// none of them hangs for good.
	statementTimeout = 30 * time.Second
)

// SetUpPublisher makes what a publishing service needs beside its outbox.
func SetUpPublisher(ctx context.Context, conn *pgx.Conn) error {
	return setUp(ctx, conn, "setup_publisher")
}

// SetUpConsumer makes what a consuming service needs beside its inbox.
func SetUpConsumer(ctx context.Context, conn *pgx.Conn) error {
	return setUp(ctx, conn, "setup_consumer")
}

func setUp(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.PgConn().Exec(ctx, query(name)).ReadAll(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// connect opens a session under a name.
func connect(ctx context.Context, dsn, name string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = name
	config.ConnectTimeout = connectTimeout
	return pgx.ConnectConfig(ctx, config)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, length time.Duration) {
	if length <= 0 {
		return
	}
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Commits remembers when writers knew that a transaction was committed.
type Commits struct {
	mu     sync.Mutex
	at     map[int64]time.Time
	events int64
}

// NewCommits returns an empty memory.
func NewCommits() *Commits { return &Commits{at: map[int64]time.Time{}} }

func (c *Commits) add(transaction int64, events int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[transaction] = time.Now()
	c.events += int64(events)
}

// At returns when the transaction was known to be committed; zero if never.
func (c *Commits) At(transaction int64) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[transaction]
}

// Events is how many events are known to be committed.
func (c *Commits) Events() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events
}
