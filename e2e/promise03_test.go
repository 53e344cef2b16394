package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// An open transaction, however old, in this database or another of the
// server, delays its own events and no others; also when relays and broker are
// killed meanwhile.
func TestPromise03NoStallByStrangers(t *testing.T) {
	t.Parallel()
	server, orders, payments := ownServer(t, map[string]string{"max_prepared_transactions": "10"})
	broker := startBroker(t)
	f := newTraffic(t, orders, payments, broker.URL(), "")
	relays := []*relay{startRelay(t, orders.dsn), startRelay(t, payments.dsn)}

	holdOpen(t, orders.dsn, "create table stranger (n int)")
	holdOpen(t, server.DSN("postgres"), "create table stranger (n int)")
	prepare(t, orders.dsn, "create table prepared_stranger (n int)", "here")
	prepare(t, server.DSN("postgres"), "create table prepared_stranger (n int)", "elsewhere")
	snapshot := holdOpen(t, orders.dsn, "set transaction isolation level repeatable read", "select count(*) from ledger")
	late := holdOpen(t, orders.dsn, "select write('k1', 3)")

	arrived := 0
	flows := func(when string) {
		t.Helper()
		fastest := time.Hour
		for i := range 20 {
			start := time.Now()
			orders.execute(t, fmt.Sprintf("select write('k%d', 1)", 2+i%5))
			arrived++
			payments.arrived(t, "payment_triggers", arrived)
			fastest = min(fastest, time.Since(start))
		}
		t.Logf("%s the fastest of 20 events arrived after %s while six transactions were open", when, fastest)
		if fastest > time.Second {
			t.Errorf("%s no event arrived within a second while strangers' transactions were open; the fastest took %s", when, fastest)
		}
	}
	flows("at first")
	for _, r := range relays {
		r.kill(t)
	}
	broker.Kill(t)
	broker.Start(t)
	startRelay(t, orders.dsn)
	startRelay(t, payments.dsn)
	flows("after the kills")
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
