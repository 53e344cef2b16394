package postgres_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/connector/postgres"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/internal/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	_ relay.Sink    = (*postgres.Sink)(nil)
	_ relay.Watcher = (*postgres.Sink)(nil)
	_ relay.Witness = (*postgres.Sink)(nil)
)

type values map[string]string

func (v values) String(name string) string { return v[name] }

// end is one of the two kinds of far end.
type end struct {
	kind   string
	create string
	stored string
	lose   string
	// empty removes all that the target holds and remembers.
	empty string
	// everywhere is what all of the kind hold, with their names.
	everywhere string
	make       func(postgres.Values, postgres.Deps) (*postgres.Sink, error)
}

var ends = []end{
	{"inbox", `select tide.inbox_create('target')`, `select event_id, payload::text from tide.target_inbox order by id`,
		`set session_replication_role = replica; delete from tide.target_inbox where id > (select min(id) + 9 from tide.target_inbox)`,
		`set session_replication_role = replica; delete from tide.target_inbox`,
		`select i.name, m.event_id, m.payload::text, m.headers::text from tide.inbox_message m join tide.inbox i on i.id = m.inbox_id order by m.id`, postgres.NewInboxSink},
	{"outbox", `select tide.outbox_create('target')`, `select event_id::text, payload::text from tide.outbox_event order by id`,
		`delete from tide.outbox_received where event_id > '00000000-0000-4000-8000-000000000010'; delete from tide.outbox_event where event_id > '00000000-0000-4000-8000-000000000010'`,
		`delete from tide.outbox_received; delete from tide.outbox_event`,
		`select o.name, e.event_id::text, e.payload::text, e.headers::text from tide.outbox_event e join tide.outbox_part p using (part) join tide.outbox o on o.id = p.outbox_id order by e.id`, postgres.NewOutboxSink},
}

func (e end) sink(t testing.TB, v values, templates ...string) *postgres.Sink {
	t.Helper()
	sink, err := e.newSink(v, templates...)
	if err != nil {
		t.Fatalf("make a sink: %v", err)
	}
	return sink
}

func (e end) newSink(v values, templates ...string) (*postgres.Sink, error) {
	if templates == nil {
		templates = []string{"target"}
	}
	return e.make(v, postgres.Deps{Templates: templates, Decode: wire.Binary{Spelling: wire.NATS()}.Decode})
}

// all returns what the target holds, in its order, as it was sent.
func (e end) all(t testing.TB, pool *pgxpool.Pool) []message.Envelope {
	t.Helper()
	rows, err := pool.Query(t.Context(), e.stored)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message.Envelope, error) {
		var m message.Envelope
		var payload string
		if err := row.Scan(&m.EventID, &payload); err != nil {
			return m, err
		}
		m.Body = compact(t, payload)
		return m, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// compact takes out the blanks that jsonb writes.
func compact(t testing.TB, payload string) []byte {
	t.Helper()
	var body bytes.Buffer
	if err := json.Compact(&body, []byte(payload)); err != nil {
		t.Fatal(err)
	}
	return body.Bytes()
}

// own is a server of the test's own with a target on it.
func own(t testing.TB, e end, options throwaway.Options) (*throwaway.Server, string) {
	t.Helper()
	server := pgtest.Own(t, options)
	dsn := server.DSN("postgres")
	if err := schematest.Install(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	conn := pgtest.Conn(t, dsn)
	if _, err := conn.Exec(t.Context(), e.create); err != nil {
		t.Fatal(err)
	}
	return server, dsn
}

// shared is a database with a target on the server that all tests share.
func shared(t testing.TB, e end, major int) (dsn string, pool *pgxpool.Pool) {
	t.Helper()
	dsn = schematest.Database(t, major)
	pool = pgtest.Pool(t, dsn)
	schematest.Exec(t, pool, e.create)
	return dsn, pool
}

// as is the address of a database for another role.
func as(t testing.TB, dsn, role, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}

func open(t testing.TB, sink *postgres.Sink) {
	t.Helper()
	if err := sink.Open(limited(t)); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = sink.Close(context.Background()) })
}

func send(ctx context.Context, sink *postgres.Sink, envelopes []message.Envelope) error {
	receipt, err := sink.Send(ctx, envelopes)
	if err != nil {
		return err
	}
	return receipt.Wait(ctx)
}

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// wantError asserts verdict and sentence.
func wantError(t testing.TB, err error, verdict delivery.Verdict, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	var partial *delivery.Partial
	if errors.As(err, &partial) {
		first, _ := partial.First()
		err = partial.Failed[first]
	}
	if got, _ := delivery.VerdictOf(err); got != verdict {
		t.Errorf("verdict %d, want %d: %v", got, verdict, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the sentence lacks %q: %v", part, err)
		}
	}
}
