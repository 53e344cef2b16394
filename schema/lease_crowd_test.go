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
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// crowd is many workers on one ordered inbox, who do their work in different
// ways, fail, give back, die and replay.
type crowd struct {
	dsn      string
	messages int

	mu       sync.Mutex
	inFlight map[string]int64
	faults   []string
}

// start notes that a worker has a message, end that it has it no more.
func (c *crowd) start(key *string, id int64) {
	if key == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, taken := c.inFlight[*key]; taken {
		// the same one twice as well: a claim that gave a row it had undone
		c.faults = append(c.faults, fmt.Sprintf("messages %d and %d of key %s are in flight at once", other, id, *key))
	}
	c.inFlight[*key] = id
}

func (c *crowd) end(key *string) {
	if key == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inFlight, *key)
}

type message struct {
	ID      int64
	EventID string
	Key     *string
	Token   string
}

const claimSome = `select id, event_id, key, lease_token::text from tide.inbox_claim('i', $1, $2, $3::interval) order by id`

// work claims and works until nothing is pending.
func (c *crowd) work(ctx context.Context, name string, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 7))
	conn, err := pgx.Connect(ctx, c.dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for {
		var left bool
		if err := conn.QueryRow(ctx, `select exists (select from tide.i_inbox where processed_at is null and dead_at is null)`).Scan(&left); err != nil || !left {
			return err
		}
		switch random.IntN(10) {
		case 0, 1, 2:
			err = c.inOneTransaction(ctx, conn, name, random)
		case 3:
			if err = c.dieWithIt(ctx, conn, name); err == nil {
				conn, err = pgx.Connect(ctx, c.dsn)
			}
		default:
			err = c.byLease(ctx, conn, name, random)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// claim runs in a transaction of its own when q is a connection.
func (c *crowd) claim(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, name string, most int, lease string) ([]message, error) {
	rows, err := q.Query(ctx, claimSome, name, most, lease)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[message])
}

const effect = `insert into effect (event_id, key, message) values ($1, $2, $3)`

// byLease does each message's work in the transaction that completes it, or
// fails it, or gives it back.
func (c *crowd) byLease(ctx context.Context, conn *pgx.Conn, name string, random *rand.Rand) error {
	got, err := c.claim(ctx, conn, name, 1+random.IntN(8), "10 minutes")
	if err != nil {
		return err
	}
	for _, m := range got {
		c.start(m.Key, m.ID)
	}
	for _, m := range got {
		c.end(m.Key) // before the commit that lets the next one go
		call := `select tide.inbox_complete('i', $1, array[$2::bigint])`
		switch random.IntN(8) {
		case 0:
			call = `select tide.inbox_fail('i', $1, array[$2::bigint], 'x', '3 milliseconds')`
		case 1:
			call = `select tide.inbox_release('i', $1, array[$2::bigint])`
		}
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if strings.Contains(call, "complete") {
				if _, err := tx.Exec(ctx, effect, m.EventID, m.Key, m.ID); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, call, m.Token, m.ID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inOneTransaction claims, works and completes, and sometimes rolls back.
func (c *crowd) inOneTransaction(ctx context.Context, conn *pgx.Conn, name string, random *rand.Rand) error {
	failed := errors.New("business failed")
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		got, err := c.claim(ctx, tx, name, 1+random.IntN(4), "10 minutes")
		if err != nil {
			return err
		}
		for _, m := range got {
			c.start(m.Key, m.ID)
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
			c.end(m.Key)
		}
		if random.IntN(4) == 0 {
			return failed
		}
		return nil
	})
	if errors.Is(err, failed) {
		return nil
	}
	return err
}

// dieWithIt claims for a moment and ends the server's process: once with the
// claim committed, once without.
func (c *crowd) dieWithIt(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := c.claim(ctx, conn, name, 3, "20 milliseconds"); err != nil {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := c.claim(ctx, tx, name, 3, "10 minutes"); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
	if e := new(pgconn.PgError); errors.As(err, &e) && e.Code == "57P01" {
		return nil
	}
	return fmt.Errorf("the session lives: %w", err)
}

// Whatever workers do and wherever they die, each effect happens once, and
// those of a key in the order of arrival, one at a time.
func TestACrowdOfWorkersHasEachEffectOnceAndInOrder(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		conn := embedded(t, major)
		c := &crowd{dsn: conn.Config().ConnString(), messages: 500, inFlight: map[string]int64{}}
		exec(t, conn, `create table effect (at bigserial, event_id text unique, key text, message bigint)`)
		exec(t, conn, `select tide.inbox_create('i', max_attempts => 1000)`)
		receive(t, conn, "i", c.messages)
		exec(t, conn, `update tide.i_inbox set key = case when id % 10 = 0 then null when id % 5 = 0 then 'hot' || id % 2 else 'k' || id % 60 end`)
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
		if len(c.faults) > 0 {
			t.Errorf("%d faults, the first: %s", len(c.faults), c.faults[0])
		}
		if n := value[int](t, conn, `select count(*) from effect`); n != c.messages {
			t.Errorf("%d effects of %d messages", n, c.messages)
		}
		if n := value[int](t, conn, `select count(*) from (
			select message < lag(message) over (partition by key order by at) as disordered from effect where key is not null) e where disordered`); n > 0 {
			t.Errorf("%d effects are out of order", n)
		}
		if n := value[int](t, conn, `select count(*) from tide.i_inbox where lease_token is not null or processed_at is null`); n > 0 {
			t.Errorf("%d messages are not done with", n)
		}
	})
}
