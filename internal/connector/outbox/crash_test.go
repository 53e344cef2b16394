package outbox

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// Publishers that do not wait for the disk have committed transactions taken
// back by a crash, and transactions that were rolled back have their xids
// given out again. What was read must be in the ledger all the same. Retention
// is at work throughout: it goes by positions that may not be on the disk yet.
func TestAfterCrashesOfTheDatabaseNothingIsLostInventedOrOutOfOrder(t *testing.T) {
	t.Parallel()
	server := pgtest.Own(t, throwaway.Options{Durable: true, Settings: map[string]string{
		"max_prepared_transactions": "0", "synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "100MB"}})
	dsn := server.DSN("postgres")
	if err := schematest.Install(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	b := busOn(t, dsn)
	schematest.Exec(t, b.pool, ledgerSQL)
	for _, key := range keys {
		schematest.Exec(t, b.pool, "insert into counter values ($1, 0)", key)
	}
	keepEverythingOld(t, b)
	schematest.Exec(t, b.pool, "checkpoint")

	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() { writeThroughCrashes(t, dsn, i, stop) })
	}
	c := &crashReader{r: New(b.catalog, b.spec), got: &readings{seen: map[string]bool{}}}
	ctx, cancel := context.WithCancel(t.Context())
	var reader sync.WaitGroup
	reader.Go(func() { c.run(ctx) })
	turned := make(chan turns)
	go func() { turned <- turn(ctx, t, b) }()

	for range 4 {
		awaitProgress(t, c, 300)
		if err := server.Crash(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	awaitProgress(t, c, 300)
	close(stop)
	writers.Wait()
	var last string
	schematest.Query(t, b.pool, `with p as (select tide.outbox_publish('orders', 'orders', '{}') as id)
		insert into ledger (event_id, n) select id, 0 from p returning event_id::text`, nil, &last)
	for !c.saw(last) && ctx.Err() == nil {
		awaitProgress(t, c, 0)
	}
	cancel()
	reader.Wait()
	if done := <-turned; done.emptied < 1 {
		t.Errorf("retention was not at work: %+v", done)
	}
	v := compare(t, b, c.got)
	t.Logf("%+v in %d pages and %d sessions", v, c.got.pages, c.sessions)
	if v.lost+v.invented+v.disordered != 0 {
		t.Errorf("%+v", v)
	}
}

// writeThroughCrashes publishes until it is told to stop, and connects again
// after each crash.
func writeThroughCrashes(t *testing.T, dsn string, number int, stop <-chan struct{}) {
	for connection := 0; ; connection++ {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err == nil {
			w := newWriter(conn, number, connection)
			for err == nil {
				select {
				case <-stop:
					conn.Close(context.WithoutCancel(t.Context()))
					return
				default:
					err = w.transaction(t.Context())
				}
			}
			conn.Close(context.WithoutCancel(t.Context()))
		}
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// crashReader reads as the engine does: any error ends the session, and the
// next one begins at the saved position.
type crashReader struct {
	r        *Reader
	mu       sync.Mutex
	got      *readings
	count    atomic.Int64
	sessions int
}

func (c *crashReader) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.sessions++
		if err := c.session(ctx); err != nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func (c *crashReader) session(ctx context.Context) error {
	if err := c.r.Open(ctx); err != nil {
		return err
	}
	for {
		page, err := c.r.Read(ctx, 50)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.got.pages++
		for _, m := range page.Messages {
			if !c.got.seen[m.EventID] {
				c.got.seen[m.EventID] = true
				c.got.order = append(c.got.order, m)
			}
		}
		c.mu.Unlock()
		c.count.Add(int64(len(page.Messages)))
		if c.got.pages%3 == 0 {
			if err := c.r.Save(ctx, page.Position); err != nil {
				return err
			}
		}
	}
}

func (c *crashReader) saw(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.seen[id]
}

// awaitProgress waits until that many more events were read.
func awaitProgress(t *testing.T, c *crashReader, more int64) {
	t.Helper()
	from := c.count.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("the reader makes no progress: %w", ctx.Err()))
		}
		if c.count.Load() >= from+more {
			return
		}
	}
}
