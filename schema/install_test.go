package schema_test

import (
	_ "embed"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

//go:embed test/sql/catalog.sql
var catalogSQL string

func catalog(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	lines := column[string](t, conn, catalogSQL)
	if len(lines) < 100 {
		t.Fatalf("the catalog has %d lines only", len(lines))
	}
	return lines
}

func sameCatalog(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("%s: too much: %s", what, line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%s: missing: %s", what, line)
		}
	}
}

func TestBothWaysOfInstallingEndInTheSameCatalog(t *testing.T) {
	pgtest.Each(t, pgtest.All(), func(t *testing.T, major int) {
		byCommand, byExtension := embedded(t, major), extension(t, major)
		want := catalog(t, byCommand)
		sameCatalog(t, "extension", catalog(t, byExtension), want)
		for _, conn := range []*pgx.Conn{byCommand, byExtension} {
			if err := schema.Verify(t.Context(), conn); err != nil {
				t.Error(err)
			}
			if err := schema.Install(t.Context(), conn); err != nil {
				t.Errorf("installing again: %v", err)
			}
			sameCatalog(t, "installed again", catalog(t, conn), want)
		}
		fill(t, byCommand)
		fill(t, byExtension)
		sameCatalog(t, "filled", catalog(t, byExtension), catalog(t, byCommand))
	})
}

// fill makes use of everything once.
func fill(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, `select tide.outbox_create('order_events'), tide.inbox_create('payment_triggers')`)
	exec(t, conn, `select tide.outbox_publish('order_events', 'orders', jsonb_build_object('n', n), key => 'k') from generate_series(1, 20) n`)
	exec(t, conn, `select tide.relay_set_outbox('orders-to-nats', 'order_events', '{"sink_type": "nats", "url": "nats://nats:4222"}')`)
	exec(t, conn, `select tide.relay_set_inbox('orders-for-payments', 'payment_triggers', '{"source_type": "nats", "url": "nats://nats:4222", "subject": "a.>"}')`)
	receive(t, conn, "payment_triggers", 20)
	exec(t, conn, `select tide.inbox_mark_processed('payment_triggers', (select min(id) from tide."payment_triggers_inbox"))`)
	exec(t, conn, `select tide.inbox_mark_failed('payment_triggers', 'e2', 'declined', '1 hour')`)
	exec(t, conn, `insert into tide.pipeline_position (pipeline_id, seq, snapshot, last_id, bound, incarnation)
		select id, 1, '10:10:', 5, '11', 1 from tide.pipeline where name = 'orders-to-nats'`)
	exec(t, conn, `insert into tide.dead_letter (pipeline_id, identity, error, body)
		select id, 'e1', 'not JSON', 'x' from tide.pipeline where name = 'orders-for-payments'`)
}

// receive puts messages e1 to e<n> into an inbox, as the relay does.
func receive(t testing.TB, conn *pgx.Conn, inbox string, n int) {
	t.Helper()
	exec(t, conn, `insert into tide.`+pgx.Identifier{inbox + "_inbox"}.Sanitize()+`
		(inbox_id, event_id, source, stream, key, op, event_type, payload)
		select (select tide.inbox_id($1)), 'e' || n, '/x/orders', 'orders', 'k' || n, 'insert', 'orders.insert', jsonb_build_object('n', n)
		from generate_series(1, $2::int) n on conflict do nothing`, inbox, n)
}
