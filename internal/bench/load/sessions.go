package load

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Task is what each transaction does.
type Task struct {
	// SQL takes a key and the payload.
	SQL, Payload string
	// Prepared says that a statement is parsed and planned once for a session.
	Prepared bool
	// Change is a statement of the service's own in the same transaction, of
	// the key; empty for none.
	Change string
}

// Sessions are connections that all do the same.
type Sessions struct {
	task        Task
	connections []*pgx.Conn
}

// Connect opens n sessions. What it returns is to be closed, also beside an error.
func Connect(ctx context.Context, dsn string, n int, t Task) (*Sessions, error) {
	all := &Sessions{task: t}
	for range n {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return all, err
		}
		if !t.Prepared {
			config.DefaultQueryExecMode = pgx.QueryExecModeExec
		}
		connection, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return all, fmt.Errorf("connect session %d: %w", len(all.connections)+1, err)
		}
		all.connections = append(all.connections, connection)
	}
	return all, nil
}

// Close ends the sessions.
func (s *Sessions) Close(ctx context.Context) {
	for _, c := range s.connections {
		_ = c.Close(ctx) // what they wrote is committed
	}
}

// commit does one transaction in one round trip.
func (t *Task) commit(ctx context.Context, c *pgx.Conn, key string) error {
	if t.Change == "" {
		_, err := c.Exec(ctx, t.SQL, key, t.Payload)
		return err
	}
	var batch pgx.Batch // one implicit transaction
	batch.Queue(t.Change, key)
	batch.Queue(t.SQL, key, t.Payload)
	return c.SendBatch(ctx, &batch).Close()
}

// Commits has all sessions commit for a while, and returns how many commits a
// second they made.
func (s *Sessions) Commits(ctx context.Context, length time.Duration) (float64, error) {
	var (
		running sync.WaitGroup
		done    atomic.Int64
		over    atomic.Bool
	)
	failed := make([]error, len(s.connections))
	begun := time.Now()
	for i, c := range s.connections {
		running.Go(func() {
			for key := strconv.Itoa(i); !over.Load(); done.Add(1) {
				if failed[i] = s.task.commit(ctx, c, key); failed[i] != nil {
					return
				}
			}
		})
	}
	time.Sleep(length)
	over.Store(true)
	running.Wait()
	rate := float64(done.Load()) / time.Since(begun).Seconds()
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return rate, nil
}
