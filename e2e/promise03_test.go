package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// An open transaction, however old, in this database or another of the
// server, delays its own events and no others.
func TestPromise03NoStallByStrangers(t *testing.T) {
	t.Parallel()
	server, orders, payments := ownServer(t, map[string]string{"max_prepared_transactions": "10"})
	f := newTraffic(t, orders, payments, startBroker(t).URL(), "")
	startRelay(t, orders.dsn)
	startRelay(t, payments.dsn)

	holdOpen(t, orders.dsn, "create table stranger (n int)")
	holdOpen(t, server.DSN("postgres"), "create table stranger (n int)")
	prepare(t, orders.dsn, "create table prepared_stranger (n int)", "here")
	prepare(t, server.DSN("postgres"), "create table prepared_stranger (n int)", "elsewhere")
	snapshot := holdOpen(t, orders.dsn, "set transaction isolation level repeatable read", "select count(*) from ledger")
	late := holdOpen(t, orders.dsn, "select write('k1', 3)")

	fastest := time.Hour
	for i := range 20 {
		start := time.Now()
		orders.execute(t, fmt.Sprintf("select write('k%d', 1)", 2+i%5))
		payments.arrived(t, "payment_triggers", i+1)
		fastest = min(fastest, time.Since(start))
	}
	t.Logf("the fastest of 20 events arrived after %s while six transactions were open", fastest)
	if fastest > time.Second {
		t.Errorf("no event arrived within a second while strangers' transactions were open; the fastest took %s", fastest)
	}
	for _, tx := range []pgx.Tx{snapshot, late} {
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.settled(t)
}

// holdOpen leaves a transaction open, until the test ends at the latest.
func holdOpen(t *testing.T, dsn string, statements ...string) pgx.Tx {
	t.Helper()
	tx, err := pgtest.Conn(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return tx
}

// prepare leaves a transaction that nobody decides on.
func prepare(t *testing.T, dsn, statement, id string) {
	t.Helper()
	conn := pgtest.Conn(t, dsn)
	for _, sql := range []string{"begin", statement, "prepare transaction " + quote(id)} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}
