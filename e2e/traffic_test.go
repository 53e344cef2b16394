package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// traffic is two services joined by a broker, with writers in the one and a
// worker in the other, and with a ledger that is written in the writers' own
// transactions: whatever happens to anybody, the ledger is what was promised.
type traffic struct {
	orders, payments *service
	writers          sync.WaitGroup
	stop             chan struct{}
	once             sync.Once
}

const (
	ordersPipeline   = "orders-to-nats"
	paymentsPipeline = "orders-for-payments"
)

// writerSQL is what the writers' database has besides the bus. Two writers of
// a key wait for each other at its counter, so their events have an order.
const writerSQL = `
create table ledger (event_id uuid primary key, key text not null, n bigint not null);
create table counter (key text primary key, n bigint not null default 0);
insert into counter (key) select 'k' || i from generate_series(1, 20) i;
create table saves (at timestamptz not null default clock_timestamp(), relay text not null);
create function write(k text, many int) returns void language plpgsql as $$
declare
    m  bigint;
    id uuid;
begin
    for i in 1..many loop
        update counter set n = n + 1 where key = k returning n into m;
        id := tide.outbox_publish('order_events', 'orders', jsonb_build_object('n', m), key => k);
        insert into ledger values (id, k, m);
    end loop;
end $$;
create function note_save() returns trigger language plpgsql security definer as $$
begin
    insert into public.saves (relay) values (current_setting('application_name'));
    return null;
end $$;
create trigger note_save after insert on tide.pipeline_position for each row execute function note_save();`

// workerSQL is what the worker's database has besides the bus. Nothing keeps
// an effect from being there twice.
const workerSQL = `
create table effect (id bigint generated always as identity, event_id text not null);
create table saves (at timestamptz not null default clock_timestamp(), relay text not null);
create function note_save() returns trigger language plpgsql security definer as $$
begin
    -- a statement of a superseded relay inserts nothing
    insert into public.saves (relay) select current_setting('application_name') where exists (select from added);
    return null;
end $$;
create trigger note_save after insert on tide.payment_triggers_inbox
    referencing new table as added for each statement execute function note_save();`

// newTraffic makes the two services on databases that have the schema.
func newTraffic(t *testing.T, orders, payments *service, brokerURL, sink string) *traffic {
	t.Helper()
	f := &traffic{orders: orders, payments: payments, stop: make(chan struct{})}
	orders.execute(t, `select tide.outbox_create('order_events')`)
	orders.execute(t, `select tide.relay_set_outbox($1, 'order_events', $2::jsonb)`, ordersPipeline,
		`{"sink_type": "nats", "url": "`+brokerURL+`", "subject_template": "events.orders.{op}"`+sink+`}`)
	payments.execute(t, `select tide.inbox_create('payment_triggers')`)
	payments.execute(t, `select tide.relay_set_inbox($1, 'payment_triggers', $2::jsonb)`, paymentsPipeline,
		`{"source_type": "nats", "url": "`+brokerURL+`", "subject": "events.orders.>", "durable_name": "payments"}`)
	orders.script(t, writerSQL)
	payments.script(t, workerSQL)
	t.Cleanup(f.halt)
	return f
}

// extended is a service whose schema is the extension, on the shared server.
func extended(t *testing.T) *service {
	t.Helper()
	s := newService(t)
	s.execute(t, `create extension pg_tide`)
	return s
}

// serviceAt is a service on a server of the test's own.
func serviceAt(t *testing.T, dsn string) *service {
	t.Helper()
	if out, err := command(t, "install", "--postgres-url", dsn); err != nil {
		t.Fatalf("install the schema: %v\n%s", err, out)
	}
	return &service{dsn: dsn, typed: pgtest.Conn(t, dsn), pool: pgtest.Pool(t, dsn)}
}

// script runs several statements.
func (s *service) script(t *testing.T, sql string) {
	t.Helper()
	if _, err := s.typed.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
}

// named makes relays tell themselves apart in the database.
func named(t *testing.T, dsn, name string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("application_name", name)
	u.RawQuery = query.Encode()
	return u.String()
}

// write starts writers that overlap, hesitate and change their minds, until halt.
func (f *traffic) write(t *testing.T, writers int) {
	t.Helper()
	for i := range writers {
		f.writers.Go(func() { f.writeOn(t.Context(), rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	f.writers.Go(func() { f.workOn(t.Context()) })
}

// halt ends the writers and the worker.
func (f *traffic) halt() {
	f.once.Do(func() { close(f.stop) })
	f.writers.Wait()
}

// pause waits for a moment, and says whether to go on.
func (f *traffic) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-f.stop:
		return false
	}
}

// writeOn writes, with a new connection after each error: what an error means
// for the transaction, the ledger knows.
func (f *traffic) writeOn(ctx context.Context, dice *rand.Rand) {
	for f.pause(5 * time.Millisecond) {
		conn, err := pgx.Connect(ctx, f.orders.dsn)
		for err == nil && f.pause(time.Duration(dice.IntN(15))*time.Millisecond) {
			err = f.transaction(ctx, conn, dice)
		}
		if conn != nil {
			_ = conn.Close(ctx) // it may be gone
		}
	}
}

func (f *traffic) transaction(ctx context.Context, conn *pgx.Conn, dice *rand.Rand) error {
	statements := []string{"begin"}
	write := fmt.Sprintf("select write('k%d', %d)", 1+dice.IntN(20), 1+dice.IntN(4))
	switch dice.IntN(8) {
	case 0:
		statements = append(statements, write, "rollback")
	case 1:
		statements = append(statements, "savepoint s", write, "rollback to s", write, "commit")
	case 2:
		statements = append(statements, "select pg_current_xact_id()", "pause", write, "commit")
	case 3, 4:
		statements = append(statements, write, "pause", "commit")
	default:
		statements = append(statements, write, "commit")
	}
	for _, statement := range statements {
		if statement == "pause" {
			f.pause(time.Duration(dice.IntN(30)) * time.Millisecond)
			continue
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// workSQL has its effect and marks the messages in one transaction.
const workSQL = `
with done as (
    select p.event_id, tide.inbox_mark_processed('payment_triggers', p.id) as marked
    from (select q.id, q.event_id from tide.inbox_pending('payment_triggers') q limit 2000) p
)
insert into effect (event_id) select d.event_id from done d where d.marked`

// workOn works through the inbox, and goes on after the writers have stopped
// until everything has had its effect.
func (f *traffic) workOn(ctx context.Context) {
	for f.pause(10 * time.Millisecond) {
		_, _ = f.payments.pool.Exec(ctx, workSQL) // an error is made good by the next
	}
}

// backlog publishes many events at once, so that a relay has much in its hands.
func (f *traffic) backlog(t *testing.T, events int) {
	t.Helper()
	f.orders.execute(t, `
		insert into ledger
		select tide.outbox_publish('order_events', 'orders', jsonb_build_object('n', i), key => 'b' || i % 50), 'b' || i % 50, i
		from (select coalesce(max(l.n), 0) as n from ledger l where l.key like 'b%') done, generate_series(done.n + 1, done.n + $1::bigint) i`, events)
}

// settled stops the writers, waits until what they committed has arrived and
// had its effect, and compares all of it with the ledger.
func (f *traffic) settled(t *testing.T) {
	t.Helper()
	f.halt()
	want := one[int](t, f.orders, `select count(*) from ledger`)
	eventually(t, func() (bool, string) {
		got := one[int](t, f.payments, `select count(*) from tide.payment_triggers_inbox`)
		return got >= want, fmt.Sprintf("%d of %d events arrived; orders: %s payments: %s", got, want, f.orders.status(t), f.payments.status(t))
	})
	for {
		tag, err := f.payments.pool.Exec(t.Context(), workSQL)
		if err != nil {
			t.Fatal(err)
		}
		if tag.RowsAffected() == 0 {
			break
		}
	}
	f.compare(t)
}

type event struct {
	id, key string
	n       int64
}

func (f *traffic) compare(t *testing.T) {
	t.Helper()
	ledger := map[string]event{}
	for _, e := range f.orders.events(t, `select event_id::text, key, n from ledger`) {
		ledger[e.id] = e
	}
	inbox := f.payments.events(t, `select event_id, coalesce(key, ''), (payload->>'n')::bigint from tide.payment_triggers_inbox order by id`)
	seen, last := map[string]bool{}, map[string]int64{}
	var invented, doubled, disordered []event
	for _, e := range inbox {
		if ledger[e.id] != e {
			invented = append(invented, e)
		}
		if seen[e.id] {
			doubled = append(doubled, e)
		}
		if e.n < last[e.key] {
			disordered = append(disordered, e)
		}
		seen[e.id], last[e.key] = true, e.n
	}
	lost := len(ledger) - len(seen)
	again := one[int](t, f.payments, `select count(*) - count(distinct event_id) from effect`)
	effects := one[int](t, f.payments, `select count(*) from effect`)
	t.Logf("%d events: %d lost, %d invented, %d doubled, %d out of order; %d effects, %d twice",
		len(ledger), lost, len(invented), len(doubled), len(disordered), effects, again)
	if lost != 0 || again != 0 || effects != len(ledger) || len(invented)+len(doubled)+len(disordered) > 0 {
		t.Errorf("lost %d of %d, effects %d (%d twice); the first invented %v, doubled %v, out of order %v",
			lost, len(ledger), effects, again, first(invented), first(doubled), first(disordered))
	}
}

func first(events []event) string {
	if len(events) == 0 {
		return "none"
	}
	return fmt.Sprintf("%v", events[0])
}

func (s *service) events(t *testing.T, sql string) []event {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e event, err error) {
		err = row.Scan(&e.id, &e.key, &e.n)
		return e, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// savedBy waits until a relay of that name has saved a position, or inserted
// something, after a moment, and returns when it first did.
func (s *service) savedBy(t *testing.T, relay string, after time.Time) time.Time {
	t.Helper()
	var at time.Time
	eventually(t, func() (bool, string) {
		err := s.pool.QueryRow(t.Context(), `select coalesce(min(at), '-infinity'::timestamptz) > '-infinity', coalesce(min(at), now())
			from saves where relay = $1 and at > $2`, relay, after).Scan(new(bool), &at)
		if err != nil {
			t.Fatal(err)
		}
		found := one[int](t, s, `select count(*) from saves where relay = $1 and at > $2`, relay, after) > 0
		return found, relay + " saved something; status: " + s.status(t)
	})
	return at
}

// lastSave is when a relay of that name last saved something.
func (s *service) lastSave(t *testing.T, relay string) time.Time {
	t.Helper()
	return one[time.Time](t, s, `select max(at) from saves where relay = $1`, relay)
}

// awaitRelays waits until that many relays are known to be alive.
func (s *service) awaitRelays(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() (bool, string) {
		alive := one[int](t, s, `select count(*) from tide.relay_instance where heartbeat_at > clock_timestamp() - interval '3 seconds'`)
		return alive == n, fmt.Sprintf("%d relays are alive", alive)
	})
}

// logs says whether a relay has said something.
func (r *relay) logs(text string) bool { return strings.Contains(r.log.String(), text) }
