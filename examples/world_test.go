package examples

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/process"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

var (
	//go:embed schema.sql
	schemaSQL string
	//go:embed gate.sql
	gateSQL string
)

const (
	relay        = "11111111-1111-4111-8111-111111111111"
	leaseSeconds = 2
	maxAttempts  = 8 // as schema.sql has it
	serviceRole  = "payment_service"
)

// world is a database with the service's tables, and the relay's side of its inbox.
type world struct {
	t       *testing.T
	dsn     string
	command []string
	lang    language
	mode    string
	pool    *pgxpool.Pool
	catalog *catalog.Catalog
	target  catalog.InboxTarget
	sent    []order
	gates   int
}

// order is what a message asks for; fate is what is to become of it.
type order struct {
	id, customer string
	amount       int
	fate         fate
}

type fate int

const (
	paid fate = iota
	givenUp
	outOfAttempts
)

func newWorld(t *testing.T, lang language, command []string, mode string, major int) *world {
	t.Helper()
	dsn := schematest.Database(t, major)
	w := &world{t: t, dsn: dsn, command: command, lang: lang, mode: mode, pool: pgtest.Pool(t, dsn)}
	w.install()
	var err error
	if w.catalog, err = catalog.Open(t.Context(), catalog.Options{ConnString: dsn, Relay: catalog.RelayInfo{ID: relay}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.catalog.Close)
	w.target.Inbox, w.target.Owner.Fence = "payment_triggers", 1
	schematest.Query(t, w.pool, `select id from tide.inbox where name = $1`, []any{w.target.Inbox}, &w.target.InboxID)
	schematest.Query(t, w.pool, `insert into tide.pipeline (name, direction, inbox_id, config) values ('orders', 'reverse', $1, '{}') returning id`,
		[]any{w.target.InboxID}, &w.target.Owner.PipelineID)
	schematest.Exec(t, w.pool, `insert into tide.pipeline_owner (pipeline_id, relay_id, fence) values ($1, $2, 1)
		on conflict (pipeline_id) do update set relay_id = excluded.relay_id, fence = excluded.fence`, w.target.Owner.PipelineID, relay)
	return w
}

// install makes the service's role and tables. Roles belong to the server,
// which takes no two of the same at once: hence a lock that all databases share.
func (w *world) install() {
	w.t.Helper()
	u, err := url.Parse(w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	u.Path = "/postgres"
	lock := pgtest.Conn(w.t, u.String())
	if _, err := lock.Exec(w.t.Context(), `select pg_advisory_lock(1)`); err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = lock.Close(context.Background()) }() // which gives the lock back
	schematest.Exec(w.t, w.pool, `do $$ begin
		if to_regrole('`+serviceRole+`') is null then
			create role `+serviceRole+` login password 'secret';
		end if;
	end $$`)
	schematest.Exec(w.t, w.pool, schemaSQL)
	schematest.Exec(w.t, w.pool, gateSQL)
	schematest.Exec(w.t, w.pool, `insert into customers select 'c' || n from generate_series(1, 4) n`)
}

// send stores orders in the inbox as the relay does, in one batch.
func (w *world) send(orders ...order) {
	w.t.Helper()
	var batch []message.Message
	for _, o := range orders {
		batch = append(batch, message.Message{
			EventID: o.id, Source: "/shop/orders", Stream: "orders", Key: o.customer, Op: "insert", EventType: "order.created",
			Payload: fmt.Appendf(nil, `{"order_id": %q, "customer": %q, "amount": %d}`, o.id, o.customer, o.amount),
			Time:    time.Now(),
		})
	}
	if added, err := w.catalog.InsertInbox(w.t.Context(), w.target, batch); err != nil || added != len(batch) {
		w.t.Fatalf("%d of %d messages were stored: %v", added, len(batch), err)
	}
	w.sent = append(w.sent, orders...)
}

// good makes an order that will be paid; its number is drawn.
func (w *world) good(customer string, place int) order {
	return order{id: fmt.Sprintf("ORD-%03d-%d", len(w.sent), place), customer: customer, amount: 10 + place}
}

// sendEach sends so many orders for each of four customers, in turns.
func (w *world) sendEach(rounds int) {
	w.t.Helper()
	var orders []order
	for range rounds {
		for n := range 4 {
			orders = append(orders, w.good(fmt.Sprintf("c%d", n+1), len(orders)))
		}
	}
	w.send(orders...)
}

// count asks for a number.
func (w *world) count(sql string, arguments ...any) (n int) {
	w.t.Helper()
	schematest.Query(w.t, w.pool, sql, arguments, &n)
	return n
}

// drained waits until nothing waits but orders that are meant to fail.
func (w *world) drained() {
	w.t.Helper()
	eventually(w.t, func() (bool, string) {
		n := w.count(`select count(*) from tide."payment_triggers_inbox"
			where processed_at is null and dead_at is null and key is distinct from 'nobody'`)
		return n == 0, fmt.Sprintf("%d messages wait", n)
	})
}

// gate holds the worker that comes to a point of a customer's order.
type gate struct {
	w      *world
	number int
	held   *pgx.Conn
}

func (w *world) shut(customer, point string) *gate {
	w.t.Helper()
	w.gates++
	g := &gate{w: w, number: w.gates, held: pgtest.Conn(w.t, w.dsn)}
	if _, err := g.held.Exec(w.t.Context(), `select pg_advisory_lock(7, $1)`, g.number); err != nil {
		w.t.Fatal(err)
	}
	schematest.Exec(w.t, w.pool, `insert into gate values ($1, $2, $3)`, customer, point, g.number)
	return g
}

// caught waits until a worker stands at the gate, and says which.
func (g *gate) caught() (worker string) {
	g.w.t.Helper()
	eventually(g.w.t, func() (bool, string) {
		err := g.w.pool.QueryRow(g.w.t.Context(), `select a.application_name from pg_locks l join pg_stat_activity a using (pid)
			where l.locktype = 'advisory' and l.database = (select oid from pg_database where datname = current_database())
				and l.classid = 7 and l.objid = $1::bigint::oid and not l.granted limit 1`, g.number).Scan(&worker)
		return err == nil, fmt.Sprintf("no worker at gate %d: %v", g.number, err)
	})
	return worker
}

// pass lets everybody through but those who stand there.
func (g *gate) pass() {
	g.w.t.Helper()
	schematest.Exec(g.w.t, g.w.pool, `delete from gate where number = $1`, g.number)
}

func (g *gate) open() {
	g.w.t.Helper()
	g.pass()
	if err := g.held.Close(g.w.t.Context()); err != nil {
		g.w.t.Fatal(err)
	}
}

// worker is the example, running.
type worker struct {
	*process.Process
	name   string
	output *output
}

// start runs the example until the test ends.
func (w *world) start(name string, pollSeconds int) *worker {
	w.t.Helper()
	u, err := url.Parse(w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	u.User = url.UserPassword(serviceRole, "secret")
	query := u.Query()
	query.Set("application_name", name)
	u.RawQuery = query.Encode()
	one := &worker{name: name, output: &output{}}
	one.Process, err = process.Start(w.t.Context(), process.Options{
		Program: w.command[0], Arguments: w.command[1:], Output: one.output,
		Environment: []string{
			"DATABASE_URL=" + w.lang.database(*u), "WORKER=" + name, "MODE=" + w.mode,
			fmt.Sprintf("LEASE_SECONDS=%d", leaseSeconds), fmt.Sprintf("POLL_SECONDS=%d", pollSeconds),
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	began := time.Now()
	w.t.Cleanup(func() {
		one.Kill()
		if w.t.Failed() {
			w.t.Logf("%s, started %s ago, printed:\n%s", name, time.Since(began).Round(time.Millisecond), one.output)
		}
	})
	return one
}

// idle waits until the worker has looked and found nothing, so that it is known
// to be up and to listen.
func (w *world) idle(one *worker) {
	w.t.Helper()
	eventually(w.t, func() (bool, string) {
		return w.count(`select count(*) from pg_stat_activity where application_name = $1 and state = 'idle'
			and datname = current_database() and (query ~ 'inbox_claim' or query ~* 'commit')`, one.name) == 1, one.name + " is not idle"
	})
}

// stop ends workers that have nothing to do.
func (w *world) stop(workers ...*worker) {
	w.t.Helper()
	for _, one := range workers {
		w.idle(one)
		one.stop(w.t)
	}
}

// stop asks the worker to end, and expects that it says so.
func (one *worker) stop(t *testing.T) {
	t.Helper()
	if err := one.Terminate(patience); err != nil {
		t.Errorf("stop %s: %v", one.name, err)
	}
	if !strings.Contains(one.output.String(), "stopped") {
		t.Errorf("%s did not end as it should: it printed\n%s", one.name, one.output)
	}
}

// output keeps what a process prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
