package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// task is what each transaction does.
type task struct {
	sql     string // of a key and the payload
	payload string
	// prepared says that a statement is parsed and planned once for a session.
	prepared bool
	// change says that the service writes a row of its own as well.
	change bool
}

// sessions are connections that all do the same.
type sessions struct {
	task
	connections []*pgx.Conn
}

func connectAll(ctx context.Context, dsn string, n int, t task) (*sessions, error) {
	all := &sessions{task: t}
	for range n {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return all, err
		}
		if !t.prepared {
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

func (s *sessions) close(ctx context.Context) {
	for _, c := range s.connections {
		_ = c.Close(ctx) // what they wrote is committed
	}
}

// commit does one transaction in one round trip.
func (t *task) commit(ctx context.Context, c *pgx.Conn, key string) error {
	if !t.change {
		_, err := c.Exec(ctx, t.sql, key, t.payload)
		return err
	}
	var batch pgx.Batch // one implicit transaction
	batch.Queue(changeSQL, key)
	batch.Queue(t.sql, key, t.payload)
	return c.SendBatch(ctx, &batch).Close()
}

// commits has all sessions commit for a while, and returns the rate.
func (s *sessions) commits(ctx context.Context, length time.Duration) (float64, error) {
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
				if failed[i] = s.commit(ctx, c, key); failed[i] != nil {
					return
				}
			}
		})
	}
	time.Sleep(length)
	over.Store(true)
	running.Wait()
	rate := since(int(done.Load()), begun)
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return rate, nil
}
