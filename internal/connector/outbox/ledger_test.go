package outbox

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

//go:embed testdata/ledger.sql
var ledgerSQL string

// keys are few, so that transactions wait for each other.
var keys = []string{"a", "b", "c", "d", "e"}

// prepareLedger creates the ledger, and a stranger's writing transaction that
// stays open until the end of the test.
func prepareLedger(t *testing.T, b bus) {
	t.Helper()
	schematest.Exec(t, b.pool, ledgerSQL)
	for _, key := range keys {
		schematest.Exec(t, b.pool, "insert into counter values ($1, 0)", key)
	}
	stranger, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stranger.Rollback(context.WithoutCancel(t.Context())) })
	if _, err := stranger.Exec(t.Context(), "insert into stranger values (1)"); err != nil {
		t.Fatal(err)
	}
}

// write runs writers until the time is up and returns when all have ended.
func write(t *testing.T, b bus, writers int, d time.Duration) {
	t.Helper()
	until := time.Now().Add(d)
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			conn, err := pgx.Connect(t.Context(), b.dsn)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(context.WithoutCancel(t.Context()))
			w := newWriter(conn, i, 0)
			w.prepares = b.prepares
			for time.Now().Before(until) && !t.Failed() {
				if err := w.transaction(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

type writer struct {
	conn     *pgx.Conn
	random   *rand.Rand
	name     string
	prepares bool
	count    int
}

func newWriter(conn *pgx.Conn, number, connection int) *writer {
	return &writer{conn: conn, random: rand.New(rand.NewPCG(uint64(number), uint64(connection))), name: fmt.Sprintf("w%d", number)}
}

// transaction is one of the shapes that have lost events elsewhere.
func (w *writer) transaction(ctx context.Context) error {
	w.count++
	key := keys[w.random.IntN(len(keys))]
	pause := w.random.Float64() * 0.01
	end := "commit"
	if w.random.IntN(6) == 0 {
		end = "rollback"
	}
	steps := []string{"begin"}
	if w.random.IntN(3) == 0 { // an xid long before the first id
		steps = append(steps, "select pg_current_xact_id()", sleep(pause))
	}
	switch w.random.IntN(10) {
	case 0, 1, 2:
		steps = append(steps, keyed(key, 1, 0))
	case 3, 4: // waits with its xid for a row lock, and lets others wait
		steps = append(steps, keyed(key, 1+w.random.IntN(3), pause), sleep(pause))
	case 5: // a savepoint that is rolled back, around one that is kept
		steps = append(steps, "savepoint a", keyed(key, 2, 0), "savepoint b", keyed(key, 1, pause), "rollback to b",
			"release a", keyed(key, 1, 0))
	case 6:
		steps = append(steps, "savepoint a", keyed(key, 2, 0), "rollback to a", sleep(pause), keyed(key, 1, 0))
	case 7: // more than a page, and late
		steps = append(steps, free(1+w.random.IntN(200)), sleep(4*pause))
	case 8:
		steps = append(steps, free(1), sleep(pause), free(1))
	case 9:
		steps = append(steps, keyed(key, 1+w.random.IntN(100), 0), sleep(pause))
	}
	if w.prepares && w.random.IntN(5) == 0 {
		name := fmt.Sprintf("%s-%d", w.name, w.count)
		steps = append(steps, fmt.Sprintf("prepare transaction '%s'", name), sleep(pause), fmt.Sprintf("%s prepared '%s'", end, name))
	} else {
		steps = append(steps, end)
	}
	for _, step := range steps {
		if _, err := w.conn.Exec(ctx, step); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

func sleep(seconds float64) string { return fmt.Sprintf("select pg_sleep(%f)", seconds) }
func free(n int) string            { return fmt.Sprintf("select publish_free(%d)", n) }
func keyed(key string, n int, pause float64) string {
	return fmt.Sprintf("select publish_keyed('%s', %d, %f)", key, n, pause)
}

// readings is what sessions of a reader returned, in order.
type readings struct {
	order []message.Message
	seen  map[string]bool
	// kept is what was read in the last session or is covered by a saved
	// position: the rest of what was seen had to be read again. Nil where
	// nobody keeps count.
	kept map[string]bool
	// doubled counts events that were read again within a session, or although
	// a saved position covers them.
	doubled int
	pages   int
	drained int
}

// readUntil reads in sessions that end at random, each from the saved
// position, until the event last was read; at says meanwhile how far it is.
func readUntil(t *testing.T, r *Reader, random *rand.Rand, at *progress, last func() string) *readings {
	t.Helper()
	got := &readings{seen: map[string]bool{}}
	covered := map[string]bool{}
	for {
		if err := r.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		session := map[string]bool{}
		got.kept = session
		for pages := 1 + random.IntN(40); pages > 0; pages-- {
			limit := 1 + random.IntN(100)
			if random.IntN(4) == 0 {
				limit = 1 + random.IntN(8) // soon exceeded by late events
			}
			page, err := readFor(t, r, limit)
			if errors.Is(err, context.DeadlineExceeded) {
				maps.Copy(got.kept, covered)
				return got // nothing comes any more
			}
			if err != nil {
				t.Fatal(err)
			}
			got.pages++
			if page.Position.DrainSnapshot != "" {
				got.drained++
				at.drains.Add(1)
			}
			for _, m := range page.Messages {
				at.lastID.Store(max(at.lastID.Load(), m.OutboxID))
				if session[m.EventID] || covered[m.EventID] {
					got.doubled++
				}
				session[m.EventID] = true
				if !got.seen[m.EventID] {
					got.seen[m.EventID] = true
					got.order = append(got.order, m)
				}
			}
			if random.IntN(3) == 0 {
				if err := r.Save(t.Context(), page.Position); err != nil {
					t.Fatal(err)
				}
				for id := range session {
					covered[id] = true
				}
			}
			if id := last(); id != "" && session[id] {
				maps.Copy(got.kept, covered)
				return got
			}
		}
	}
}

func readFor(t *testing.T, r *Reader, limit int) (message.Page, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return r.Read(ctx, limit)
}

// verdict compares what was committed with what was read.
type verdict struct{ committed, lost, doubled, invented, disordered int }

func compare(t *testing.T, b bus, got *readings) verdict {
	t.Helper()
	v := verdict{doubled: got.doubled}
	rows, err := b.pool.Query(t.Context(), "select event_id::text from ledger")
	if err != nil {
		t.Fatal(err)
	}
	committed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	v.committed = len(committed)
	read := 0
	for _, id := range committed {
		if got.seen[id] {
			read++
		}
		if !got.seen[id] || got.kept != nil && !got.kept[id] {
			v.lost++
		}
	}
	v.invented = len(got.seen) - read
	lastOfKey := map[string]int64{}
	for _, m := range got.order {
		if !slices.Contains(keys, m.Key) {
			continue
		}
		var payload struct{ N int64 }
		if err := json.Unmarshal(m.Payload, &payload); err != nil {
			t.Fatal(err)
		}
		if payload.N <= lastOfKey[m.Key] {
			v.disordered++
		}
		lastOfKey[m.Key] = payload.N
	}
	return v
}

// progress is how far readUntil is: how many pages of drains it has read, and
// the greatest id.
type progress struct{ drains, lastID atomic.Int64 }

// reaches waits until all that is committed was read.
func (p *progress) reaches(t *testing.T, b bus) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	var last int64
	if err := b.pool.QueryRow(ctx, `select max(id) from tide.outbox_event`).Scan(&last); err != nil {
		t.Error(err)
		return
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for p.lastID.Load() < last {
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Errorf("the reader is at %d and does not reach %d", p.lastID.Load(), last)
			return
		}
	}
}

// lateAtOnce commits more late events than any page holds, once the reader is
// beyond them: a reader that lagged behind the traffic saw nothing come late.
func lateAtOnce(t *testing.T, b bus, at *progress) error {
	ctx := context.WithoutCancel(t.Context())
	return pgx.BeginFunc(ctx, b.pool, func(late pgx.Tx) error {
		if _, err := late.Exec(ctx, free(200)); err != nil {
			return err
		}
		if _, err := b.pool.Exec(ctx, free(1)); err != nil {
			return err
		}
		at.reaches(t, b)
		return nil
	})
}
