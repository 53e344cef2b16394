package schema_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// crowd is many workers on one ordered inbox, who do their work in different
// ways, fail, give back, die and replay.
type crowd struct {
	dsn      string
	messages int
	// outages is what goes wrong with the server meanwhile; nil when nothing does.
	outages *outages

	mu       sync.Mutex
	inFlight map[string]holding
	// outside is how often a message had its effect where no transaction reaches.
	outside map[string]int
	faults  []string
	ended   int // transactions that settled a message
}

// holding is a message that a worker has.
type holding struct {
	id     int64
	worker string
	// crashes is how many there had been when a transaction took it, and -1 for
	// a lease, which outlives them.
	crashes int
}

// start notes that a worker has a message, end that it has it no more.
func (c *crowd) start(m message, h holding) {
	if m.Key == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.crashes >= 0 && h.crashes < c.outages.crashes() {
		return // its transaction is gone, and others may have the message by now
	}
	if other, taken := c.inFlight[*m.Key]; taken && (other.crashes < 0 || other.crashes == c.outages.crashes()) {
		// the same one twice as well: a claim that gave a row it had undone
		c.faults = append(c.faults, fmt.Sprintf("messages %d and %d of key %s are in flight at once", other.id, m.ID, *m.Key))
	}
	h.id = m.ID
	c.inFlight[*m.Key] = h
}

func (c *crowd) end(m message, worker string) {
	if m.Key == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.inFlight[*m.Key]; h.id == m.ID && h.worker == worker {
		delete(c.inFlight, *m.Key)
	}
}

// settled counts, so that crashes come in the midst of it.
func (c *crowd) settled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended++; c.ended%(c.messages/5) == 0 {
		c.outages.due()
	}
}

type message struct {
	ID      int64
	EventID string
	Key     *string
	Token   string
}

const claimSome = `select id, event_id, key, lease_token::text from tide.inbox_claim('i', $1, $2, $3::text::interval) order by id`

// worker is one of the crowd.
type worker struct {
	*crowd
	name   string
	random *rand.Rand
	conn   *pgx.Conn
	// has are the messages that it has leased and not settled. It is late with
	// them when their leases have run out.
	has  []message
	late bool
}

// work claims and works until nothing is pending.
func (c *crowd) work(ctx context.Context, name string, seed uint64) error {
	conn, err := c.outages.connect(ctx, c.dsn)
	if err != nil {
		return err
	}
	w := &worker{crowd: c, name: name, random: rand.New(rand.NewPCG(seed, 7)), conn: conn}
	defer func() { _ = w.conn.Close(context.WithoutCancel(ctx)) }()
	for {
		left, err := w.turn(ctx)
		if err != nil {
			err = w.outlive(ctx, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !left {
			return nil
		}
	}
}

// turn does one thing, if anything is left; after an error there may be.
func (w *worker) turn(ctx context.Context) (left bool, err error) {
	if err := w.conn.QueryRow(ctx, `select exists (select from tide.i_inbox where processed_at is null and dead_at is null)`).Scan(&left); err != nil || !left {
		return err != nil, err
	}
	switch w.random.IntN(10) {
	case 0, 1, 2:
		err = w.inOneTransaction(ctx)
	case 3:
		if err = w.dieWithIt(ctx); err == nil {
			w.conn, err = w.outages.connect(ctx, w.dsn)
		}
	default:
		err = w.byLease(ctx)
	}
	return true, err
}

// claim runs in a transaction of its own when q is a connection.
func (w *worker) claim(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, name string, most int, lease string) ([]message, error) {
	rows, err := q.Query(ctx, claimSome, name, most, lease)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[message])
}

const effect = `insert into effect (event_id, key, message) values ($1, $2, $3)`

// byLease settles each message in a transaction of its own.
func (w *worker) byLease(ctx context.Context) error {
	got, err := w.claim(ctx, w.conn, w.name, 1+w.random.IntN(8), "10 minutes")
	if err != nil {
		return err
	}
	for _, m := range got {
		w.start(m, holding{worker: w.name, crashes: -1})
	}
	w.has, w.late = got, false
	for len(w.has) > 0 {
		if err := w.settle(ctx, w.has[0]); err != nil {
			return err
		}
		w.has = w.has[1:]
	}
	return nil
}

// settle does a message's work in the transaction that completes it, or does
// it outside and then completes it, or fails it, or gives it back. What a crash
// left open it says again.
func (w *worker) settle(ctx context.Context, m message) error {
	call, outside := `select tide.inbox_complete('i', $1::text::uuid, array[$2::bigint])`, false
	switch w.random.IntN(8) {
	case 0:
		call = `select tide.inbox_fail('i', $1::text::uuid, array[$2::bigint], 'x', '3 milliseconds')`
	case 1:
		call = `select tide.inbox_release('i', $1::text::uuid, array[$2::bigint])`
	case 2:
		outside = w.outages != nil
	}
	if outside {
		w.happened(m)
	}
	w.end(m, w.name) // before the commit that lets the next one go
	for again := false; ; again = true {
		err := pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, call, m.Token, m.ID); err != nil {
				return err
			}
			if outside || !strings.Contains(call, "complete") {
				return nil
			}
			_, err := tx.Exec(ctx, effect, m.EventID, m.Key, m.ID)
			return err
		})
		switch {
		case err == nil:
			w.settled()
			return nil
		case (again || w.late) && isCode(err, "TD001"):
			return nil
		case w.outages == nil:
			return err
		}
		if err := w.outlive(ctx, err); err != nil {
			return err
		}
	}
}

// inOneTransaction claims, works and completes, and sometimes rolls back.
func (w *worker) inOneTransaction(ctx context.Context) error {
	failed := errors.New("business failed")
	crashes := w.outages.crashes()
	err := pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		got, err := w.claim(ctx, tx, w.name, 1+w.random.IntN(4), "10 minutes")
		if err != nil {
			return err
		}
		for _, m := range got {
			w.start(m, holding{worker: w.name, crashes: crashes})
		}
		for _, m := range got {
			if _, err := tx.Exec(ctx, effect, m.EventID, m.Key, m.ID); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `select tide.inbox_mark_processed('i', $1::bigint)`, m.ID); err != nil {
				return err
			}
		}
		for _, m := range got {
			w.end(m, w.name)
		}
		if w.random.IntN(4) == 0 {
			return failed
		}
		return nil
	})
	if errors.Is(err, failed) {
		return nil
	}
	if err == nil {
		w.settled()
	}
	return err
}

// dieWithIt claims for a moment and ends the server's process: once with the
// claim committed, once without.
func (w *worker) dieWithIt(ctx context.Context) error {
	if _, err := w.claim(ctx, w.conn, w.name, 3, "20 milliseconds"); err != nil {
		return err
	}
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := w.claim(ctx, tx, w.name, 3, "10 minutes"); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
	if isCode(err, "57P01") {
		return nil
	}
	return fmt.Errorf("the session lives: %w", err)
}

// Whatever workers do and wherever they die, each effect happens once, and
// those of a key in the order of arrival, one at a time.
func TestACrowdOfWorkersHasEachEffectOnceAndInOrder(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		c := newCrowd(t, conn, 500)
		c.run(t)
		c.check(t, conn)
	})
}

// newCrowd fills an inbox for a crowd.
func newCrowd(t *testing.T, conn *pgx.Conn, messages int) *crowd {
	t.Helper()
	exec(t, conn, `create table effect (at bigserial, event_id text unique, key text, message bigint)`)
	exec(t, conn, `select tide.inbox_create('i', max_attempts => 1000)`)
	receive(t, conn, "i", messages)
	exec(t, conn, `update tide.i_inbox set key = case when id % 10 = 0 then null when id % 5 = 0 then 'hot' || id % 2 else 'k' || id % 60 end`)
	return &crowd{dsn: conn.Config().ConnString(), messages: messages, inFlight: map[string]holding{}, outside: map[string]int{}}
}

// run has sixteen workers work until nothing is pending.
func (c *crowd) run(t *testing.T) {
	t.Helper()
	workers := make(chan error)
	const count = 16
	for i := range count {
		go func() { workers <- c.work(t.Context(), fmt.Sprintf("worker-%d", i), uint64(i)) }()
	}
	for range count {
		if err := <-workers; err != nil {
			t.Error(err)
		}
	}
}

// check looks at what the workers did. That nothing had its effect twice is
// seen to by the unique index.
func (c *crowd) check(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if len(c.faults) > 0 {
		t.Errorf("%d faults, the first: %s", len(c.faults), c.faults[0])
	}
	done := map[string]bool{}
	for _, id := range column[string](t, conn, `select event_id from effect`) {
		done[id] = true
	}
	for id := range c.outside {
		done[id] = true
	}
	if len(done) != c.messages {
		t.Errorf("%d of %d messages had their effect", len(done), c.messages)
	}
	if n := value[int](t, conn, `select count(*) from (
		select message < lag(message) over (partition by key order by at) as disordered from effect where key is not null) e where disordered`); n > 0 {
		t.Errorf("%d effects are out of order", n)
	}
	if n := value[int](t, conn, `select count(*) from tide.i_inbox where lease_token is not null or processed_at is null`); n > 0 {
		t.Errorf("%d messages are not done with", n)
	}
}
