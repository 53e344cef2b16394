// Package schematest gives tests a database with the schema tide in it, and
// outboxes and pipelines to try things on. It is never part of the product.
package schematest

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

// Database makes a database with the schema for this test.
func Database(t testing.TB, major int) (dsn string) {
	t.Helper()
	return pgtest.DatabaseFrom(t, major, "tide", func(dsn string) error {
		return Install(context.WithoutCancel(t.Context()), dsn)
	})
}

// Install puts the schema into a database that a test made by itself.
func Install(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // the installation is committed
	return schema.Install(ctx, conn)
}

// Outbox makes an outbox and returns its id.
func Outbox(t testing.TB, pool *pgxpool.Pool, name string) (id int64) {
	t.Helper()
	Exec(t, pool, `select tide.outbox_create($1)`, name)
	Query(t, pool, `select id from tide.outbox where name = $1`, []any{name}, &id)
	return id
}

// Inbox makes an inbox and returns its id.
func Inbox(t testing.TB, pool *pgxpool.Pool, name string) (id int64) {
	t.Helper()
	Exec(t, pool, `select tide.inbox_create($1)`, name)
	Query(t, pool, `select id from tide.inbox where name = $1`, []any{name}, &id)
	return id
}

// Forward makes a forward pipeline of its own outbox, owned by the relay.
func Forward(t testing.TB, pool *pgxpool.Pool, outbox, relay string) pipeline.Spec {
	t.Helper()
	spec := pipeline.Spec{Name: outbox + "-out", Direction: pipeline.Forward, Endpoint: outbox,
		EndpointID: Outbox(t, pool, outbox), Fence: 1}
	Query(t, pool, `insert into tide.pipeline (name, direction, outbox_id, config) values ($1, 'forward', $2, '{}') returning id`,
		[]any{spec.Name, spec.EndpointID}, &spec.ID)
	own(t, pool, spec, relay)
	return spec
}

// Reverse makes a reverse pipeline of its own inbox, owned by the relay.
func Reverse(t testing.TB, pool *pgxpool.Pool, inbox, relay string) pipeline.Spec {
	t.Helper()
	spec := pipeline.Spec{Name: inbox + "-in", Direction: pipeline.Reverse, Endpoint: inbox,
		EndpointID: Inbox(t, pool, inbox), Fence: 1}
	Query(t, pool, `insert into tide.pipeline (name, direction, inbox_id, config) values ($1, 'reverse', $2, '{}') returning id`,
		[]any{spec.Name, spec.EndpointID}, &spec.ID)
	own(t, pool, spec, relay)
	return spec
}

func own(t testing.TB, pool *pgxpool.Pool, spec pipeline.Spec, relay string) {
	t.Helper()
	Exec(t, pool, `insert into tide.pipeline_owner (pipeline_id, relay_id, fence) values ($1, $2, $3)
		on conflict (pipeline_id) do update set relay_id = excluded.relay_id, fence = excluded.fence`,
		spec.ID, relay, spec.Fence)
}

// Supersede gives a pipeline to another relay.
func Supersede(t testing.TB, pool *pgxpool.Pool, spec pipeline.Spec) {
	t.Helper()
	Exec(t, pool, `update tide.pipeline_owner set relay_id = gen_random_uuid(), fence = fence + 1 where pipeline_id = $1`, spec.ID)
}

// Publish publishes one event in a transaction of its own.
func Publish(t testing.TB, pool *pgxpool.Pool, outbox, key, payload string) (eventID string) {
	t.Helper()
	Query(t, pool, `select tide.outbox_publish($1, null, $2::jsonb, '{}', nullif($3, ''))::text`, []any{outbox, payload, key}, &eventID)
	return eventID
}

// Exec runs a statement, or several without parameters.
func Exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if len(args) == 0 {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Query scans the one row of a query.
func Query(t testing.TB, pool *pgxpool.Pool, sql string, args []any, into ...any) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(into...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
