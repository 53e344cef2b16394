package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// warmUp is how long each contender runs before anything is measured.
const warmUp = time.Second

// contender is one way to write an event, and what was measured of it.
type contender struct {
	name, sql string
	sessions  []*pgx.Conn
	change    bool

	// rates are commits per second, one for each slice.
	rates     []float64
	commits   int64
	processor time.Duration
}

// open connects the sessions and warms them.
func (c *contender) open(ctx context.Context, dsn string, b *bench) error {
	c.change = b.change
	for range b.clients {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return err
		}
		if b.unprepared {
			config.DefaultQueryExecMode = pgx.QueryExecModeExec
		}
		session, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		c.sessions = append(c.sessions, session)
	}
	if err := c.run(ctx, warmUp); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	c.rates, c.commits, c.processor = nil, 0, 0
	return nil
}

func (c *contender) close(ctx context.Context) {
	for _, session := range c.sessions {
		_ = session.Close(ctx) // the server goes as well
	}
}

// run has all sessions commit for a while.
func (c *contender) run(ctx context.Context, length time.Duration) error {
	var (
		running sync.WaitGroup
		commits atomic.Int64
		over    atomic.Bool
	)
	failed := make([]error, len(c.sessions))
	before, start := c.processorTime(), time.Now()
	for i, session := range c.sessions {
		running.Go(func() {
			for key := strconv.Itoa(i); !over.Load() && failed[i] == nil; commits.Add(1) {
				failed[i] = c.commit(ctx, session, key)
			}
		})
	}
	time.Sleep(length)
	over.Store(true)
	running.Wait()
	c.rates = append(c.rates, float64(commits.Load())/time.Since(start).Seconds())
	c.commits += commits.Load()
	c.processor += c.processorTime() - before
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// commit writes one event in a transaction, with one round trip.
func (c *contender) commit(ctx context.Context, session *pgx.Conn, key string) error {
	if !c.change {
		_, err := session.Exec(ctx, c.sql, key, payload)
		return err
	}
	var batch pgx.Batch // the implicit transaction of a pipeline
	batch.Queue(changeSQL, key)
	batch.Queue(c.sql, key, payload)
	return session.SendBatch(ctx, &batch).Close()
}

// processorTime is what the server's processes of these sessions have taken;
// 0 where the system does not tell.
func (c *contender) processorTime() time.Duration {
	const tick = 10 * time.Millisecond
	var sum int64
	for _, session := range c.sessions {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", session.PgConn().PID()))
		if err != nil {
			return 0
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, field := range fields[11:13] { // utime and stime
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0
			}
			sum += ticks
		}
	}
	return time.Duration(sum) * tick
}

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}
