package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// bus is the tutorial's three services, each with a database of its own.
type bus struct {
	nats                       string
	orders, payments, shipping *service
}

// service is one service's database.
type service struct {
	dsn string
	// typed is the one session in which SQL is typed: a transaction spans statements.
	typed *pgx.Conn
	pool  *pgxpool.Pool
}

// tutorialMajor is the PostgreSQL that the tutorial runs on here; the schema's
// own tests cover all of them.
const tutorialMajor = pgtest.Newest

// newBus makes the databases and runs the tutorial's SQL in them, step by
// step, with the broker's address in place of the tutorial's.
func newBus(t *testing.T, natsURL string) *bus {
	t.Helper()
	return newBusOf(t, natsURL, func(sql string) string { return strings.ReplaceAll(sql, "nats://nats:4222", natsURL) })
}

// newBusOf lets the caller change what the tutorial typed.
func newBusOf(t *testing.T, address string, change func(sql string) string) *bus {
	t.Helper()
	b := &bus{nats: address, orders: newService(t), payments: newService(t), shipping: newService(t)}
	b.orders.execute(t, `create table orders (id text primary key, customer_id text, total numeric, status text)`)
	for n, s := range map[string]*service{"1": b.orders, "2": b.payments, "3": b.shipping} {
		for _, statement := range tutorialStep(t, n) {
			s.execute(t, change(statement))
		}
	}
	return b
}

// newService makes an empty database on a server that has the extension's files.
func newService(t *testing.T) *service {
	t.Helper()
	placeExtension(t)
	dsn := pgtest.Database(t, tutorialMajor)
	return &service{dsn: dsn, typed: pgtest.Conn(t, dsn), pool: pgtest.Pool(t, dsn)}
}

func placeExtension(t *testing.T) {
	t.Helper()
	server := pgtest.Server(t, tutorialMajor)
	place := exec.CommandContext(t.Context(), built(t), "extension", "--dest", filepath.Join(server.ShareDir, "extension"))
	if out, err := place.CombinedOutput(); err != nil {
		t.Fatalf("place the extension's files: %v\n%s", err, out)
	}
}

// execute runs one statement as typed.
func (s *service) execute(t *testing.T, sql string, arguments ...any) {
	t.Helper()
	if _, err := s.typed.Exec(t.Context(), sql, arguments...); err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
}

// one returns the single value of a query.
func one[T any](t *testing.T, s *service, sql string, arguments ...any) T {
	t.Helper()
	var value T
	if err := s.pool.QueryRow(t.Context(), sql, arguments...).Scan(&value); err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
	return value
}

// order publishes within the transaction that stores the order.
func (b *bus) order(t *testing.T, id, eventType string) {
	t.Helper()
	tx, err := b.orders.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.publish(t, tx, id, eventType)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (b *bus) publish(t *testing.T, tx pgx.Tx, id, eventType string) {
	t.Helper()
	const sql = `select tide.outbox_publish('order_events', 'orders',
		jsonb_build_object('event_type', $2::text, 'order_id', $1::text), key => $1)`
	if _, err := tx.Exec(t.Context(), sql, id, eventType); err != nil {
		t.Fatal(err)
	}
}

// arrived returns "order_id event_type" of every message of an inbox, in the
// order of arrival, once there are at least n. The relay's notification is
// the signal; nothing is polled.
func (s *service) arrived(t *testing.T, inbox string, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{"tide_inbox_" + inbox}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	for {
		got := s.inbox(t, inbox)
		if len(got) >= n {
			return got
		}
		if _, err := conn.WaitForNotification(ctx); err != nil {
			t.Fatalf("%s has %d messages, want %d: %v; status: %s", inbox, len(got), n, err, s.status(t))
		}
	}
}

func (s *service) inbox(t *testing.T, inbox string) []string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), fmt.Sprintf(
		`select concat_ws(' ', payload->>'order_id', payload->>'event_type') from tide.%s order by id`,
		pgx.Identifier{inbox + "_inbox"}.Sanitize()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// status is what the service's relay says of its pipelines.
func (s *service) status(t *testing.T) string {
	t.Helper()
	return one[string](t, s, `select coalesce(jsonb_agg(to_jsonb(r))::text, '') from tide.relay_status r`)
}

// awaitStatus waits until a condition on tide.relay_status r holds.
func (s *service) awaitStatus(t *testing.T, pipeline, condition string) {
	t.Helper()
	eventually(t, func() (bool, string) {
		sql := `select exists (select from tide.relay_status r where r.pipeline = $1 and ` + condition + `)`
		return one[bool](t, s, sql, pipeline), condition + " of " + pipeline + "; status: " + s.status(t)
	})
}
