package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// ownServer is a server that survives being killed, with both services on it.
func ownServer(t *testing.T, settings map[string]string) (server *throwaway.Server, orders, payments *service) {
	t.Helper()
	server = pgtest.Own(t, throwaway.Options{Major: tutorialMajor, Durable: true, Settings: settings})
	admin := pgtest.Conn(t, server.DSN("postgres"))
	for _, name := range []string{"orders", "payments"} {
		if _, err := admin.Exec(t.Context(), "create database "+name); err != nil {
			t.Fatal(err)
		}
	}
	return server, serviceAt(t, server.DSN("orders")), serviceAt(t, server.DSN("payments"))
}

// crash ends the server and starts it again; sessions that were typed in are
// opened anew.
func crash(t *testing.T, server *throwaway.Server, how func(context.Context) error, services ...*service) {
	t.Helper()
	if err := how(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		s.typed = pgtest.Conn(t, s.dsn)
		s.pool.Reset()
	}
}

// An event exists if and only if its transaction committed: with rollbacks,
// savepoints, prepared transactions, publishers that are cut off, publishers
// that do not wait for the disk, and crashes of the database in between.
func TestPromise01AllOrNothing(t *testing.T) {
	t.Parallel()
	server, orders, payments := ownServer(t, map[string]string{
		"max_prepared_transactions": "50", "wal_writer_delay": "10s", "wal_writer_flush_after": "100MB"})
	f := newTraffic(t, orders, payments, startBroker(t).URL(), "")
	startRelay(t, orders.dsn)
	startRelay(t, payments.dsn)
	f.write(t, 3)
	f.writers.Go(func() { f.prepareOn(t.Context(), rand.New(rand.NewPCG(1, 1))) })
	hurried := 0
	f.writers.Go(func() { hurried = f.hurryOn(t.Context()) })
	for round := range 3 {
		f.awaitMore(t, 150)
		orders.execute(t, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'hurried'`)
		f.awaitMore(t, 150)
		crash(t, server, []func(context.Context) error{server.Crash, server.Kill}[round%2], orders, payments)
	}
	f.awaitMore(t, 100)
	f.halt()
	// What is prepared and was not decided on is decided on now.
	for _, id := range prepared(t, orders) {
		verb := []string{"commit", "rollback"}[len(id)%2]
		orders.execute(t, verb+" prepared "+quote(id))
	}
	f.settled(t)
	kept := one[int](t, orders, `select count(*) from ledger where key like 'h%'`) / 2
	t.Logf("of %d transactions that did not wait for the disk, crashes took %d back", hurried, hurried-kept)
}

func quote(text string) string { return "'" + text + "'" }

func prepared(t *testing.T, s *service) []string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `select gid from pg_prepared_xacts where database = current_database()`)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// awaitMore waits until that many more events have arrived.
func (f *traffic) awaitMore(t *testing.T, more int) {
	t.Helper()
	const sql = `select count(*) from tide.payment_triggers_inbox`
	from := one[int](t, f.payments, sql)
	eventually(t, func() (bool, string) {
		return one[int](t, f.payments, sql) >= from+more, fmt.Sprintf("%d more events have arrived; orders: %s payments: %s", more, f.orders.status(t), f.payments.status(t))
	})
}

// sessions calls work with a connection to the orders until halt, and with a
// new one after each error.
func (f *traffic) sessions(ctx context.Context, dsn string, work func(conn *pgx.Conn) error) {
	for f.pause(5 * time.Millisecond) {
		conn, err := pgx.Connect(ctx, dsn)
		for err == nil && f.pause(5*time.Millisecond) {
			err = work(conn)
		}
		if conn != nil {
			_ = conn.Close(ctx) // it may be gone
		}
	}
}

// prepareOn publishes in transactions that are prepared, and decided on later.
// Their keys are nobody else's, for their counters stay locked.
func (f *traffic) prepareOn(ctx context.Context, dice *rand.Rand) {
	number := 0
	f.sessions(ctx, f.orders.dsn, func(conn *pgx.Conn) error {
		number++
		id, key := "p"+strconv.Itoa(number), "p"+strconv.Itoa(number)
		end := []string{"commit", "rollback"}[dice.IntN(2)]
		for _, sql := range []string{
			"insert into counter (key) values (" + quote(key) + ")",
			"begin", "select write(" + quote(key) + ", 2)", "prepare transaction " + quote(id), end + " prepared " + quote(id),
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// hurryOn publishes without waiting for the disk: a crash takes some back. It
// returns how many transactions it was told to be committed.
func (f *traffic) hurryOn(ctx context.Context) (committed int) {
	f.sessions(ctx, f.orders.dsn+"&application_name=hurried", func(conn *pgx.Conn) error {
		key := quote("h" + strconv.Itoa(committed))
		for _, sql := range []string{
			"set synchronous_commit = off", "begin",
			"insert into counter (key) values (" + key + ") on conflict do nothing",
			"select write(" + key + ", 2)", "commit",
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		committed++
		return nil
	})
	return committed
}
