package schema_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

func isCode(err error, code string) bool {
	e := new(pgconn.PgError)
	return errors.As(err, &e) && e.Code == code
}

// outages are the crashes of a server under a crowd. Those of none are none.
type outages struct {
	server *throwaway.Server
	wanted chan struct{}

	mu    sync.Mutex
	count int
	up    chan struct{} // closed while the server is up
}

func newOutages(server *throwaway.Server) *outages {
	up := make(chan struct{})
	close(up)
	return &outages{server: server, wanted: make(chan struct{}, 1), up: up}
}

// crashes is how many there were. It grows while the server is down, when what
// was not committed is gone and nobody can have claimed it again.
func (o *outages) crashes() int {
	if o == nil {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}

// due asks for one.
func (o *outages) due() {
	if o == nil {
		return
	}
	select {
	case o.wanted <- struct{}{}:
	default: // one is due already
	}
}

// crash ends the server and starts it again.
func (o *outages) crash(ctx context.Context, end func(ctx context.Context) error) error {
	up := make(chan struct{})
	o.mu.Lock()
	o.up = up
	o.mu.Unlock()
	err := end(ctx)
	o.mu.Lock()
	o.count++
	o.mu.Unlock()
	err = errors.Join(err, o.server.Start(ctx))
	close(up)
	return err
}

// connect waits until the server is up and answers.
func (o *outages) connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	if o == nil {
		return pgx.Connect(ctx, dsn)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		o.mu.Lock()
		up := o.up
		o.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			// a pooler takes connections while the server is away
			if _, err = conn.Exec(ctx, `select 1`); err == nil {
				return conn, nil
			}
			_ = conn.Close(ctx) // it is cut
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// happened notes an effect that no transaction can take back.
func (c *crowd) happened(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outside[m.EventID]++
}

// runOut ends leases as their time would.
const runOut = `update tide.i_inbox set next_attempt_at = clock_timestamp()
	where leased_by = $1 and lease_token is not null and not id = any($2::bigint[])`

// outlive goes on after a crash: with its leases, which outlive it too, but for
// one half of the time, when it was so slow that they have run out. What it
// claimed without hearing of it runs out as well.
func (w *worker) outlive(ctx context.Context, err error) error {
	if w.outages == nil || !w.conn.IsClosed() {
		return err
	}
	if w.random.IntN(2) == 0 {
		w.late = true
		for _, m := range w.has {
			w.end(m, w.name)
		}
	}
	keeps := []int64{}
	for _, m := range w.has {
		if !w.late {
			keeps = append(keeps, m.ID)
		}
	}
	for {
		conn, err := w.outages.connect(ctx, w.dsn)
		if err != nil {
			return err
		}
		w.conn = conn
		if _, err = conn.Exec(ctx, runOut, w.name, keeps); err == nil || !conn.IsClosed() {
			return err
		}
	}
}

// crashing has the crowd work while its server crashes three times: killed,
// stopped at once, killed.
func crashing(t *testing.T, major int, through func(t *testing.T, server *throwaway.Server, dsn string) string) {
	server := pgtest.Own(t, throwaway.Options{Major: major, Durable: true})
	conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	c := newCrowd(t, conn, 500)
	_ = conn.Close(t.Context()) // it would be killed
	c.dsn, c.outages = through(t, server, c.dsn), newOutages(server)
	crashed := make(chan error)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		var err error
		for _, end := range []func(ctx context.Context) error{server.Kill, server.Crash, server.Kill} {
			select {
			case <-c.outages.wanted:
			case <-ctx.Done():
			}
			if ctx.Err() == nil && err == nil {
				err = c.outages.crash(ctx, end)
			}
		}
		crashed <- err
	}()
	c.run(t)
	stop()
	if err := <-crashed; err != nil {
		t.Fatal(err)
	}
	if n := c.outages.crashes(); n != 3 {
		t.Errorf("the server crashed %d times: the test shows nothing", n)
	}
	c.check(t, pgtest.Conn(t, server.DSN("postgres")))
}

// An effect in the transaction that settles its message happens once, one
// outside at least once, whenever the server is killed.
func TestACrowdOfWorkersOutlivesCrashesOfTheServer(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		t.Parallel()
		crashing(t, major, func(_ *testing.T, _ *throwaway.Server, dsn string) string { return dsn })
	})
}

func TestACrowdOfWorkersOutlivesCrashesBehindATransactionPooler(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		t.Parallel()
		crashing(t, major, func(t *testing.T, server *throwaway.Server, dsn string) string {
			return pgtest.Pooler(t, server)(dsn) + "&default_query_exec_mode=exec"
		})
	})
}

// A lease that was committed outlives a crash: its token is good until the
// lease is lost, and is refused from then on; a transaction's claim is gone.
func TestALeaseOutlivesACrashAndIsRefusedOnceLost(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		t.Parallel()
		server := pgtest.Own(t, throwaway.Options{Major: major, Durable: true})
		conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Install(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		exec(t, conn, `select tide.inbox_create('i')`)
		receive(t, conn, "i", 3)
		kept := value[string](t, conn, `select lease_token::text from tide.inbox_claim('i', 'keeps', 1, '10 minutes')`)
		lost := value[string](t, conn, `select lease_token::text from tide.inbox_claim('i', 'loses', 1, '10 minutes')`)
		exec(t, conn, `begin`)
		exec(t, conn, `select from tide.inbox_claim('i', 'dies', 1, '10 minutes')`)
		if err := server.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context()) // it was killed
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn = pgtest.Conn(t, server.DSN("postgres"))
		if n := value[int](t, conn, `select count(*) from tide.i_inbox where attempts = 0 and lease_token is null`); n != 1 {
			t.Errorf("%d messages were never claimed, want the one whose claim was not committed", n)
		}
		exec(t, conn, runOut, "loses", []int64{})
		other := value[string](t, conn, `select lease_token::text from tide.inbox_claim('i', 'takes over', 10, '10 minutes') where id = 2`)
		complete := `select tide.inbox_complete('i', $1::text::uuid, array[$2::bigint])`
		exec(t, conn, complete, kept, 1)
		exec(t, conn, complete, other, 2)
		if _, err := conn.Exec(t.Context(), complete, lost, 2); !isCode(err, "TD001") {
			t.Errorf("a lease that was lost was not refused: %v", err)
		}
	})
}
