// Package watermill is the outbox of Watermill v1.5.1: its SQL Pub/Sub
// (watermill-sql v4.1.2) read by its Forwarder, which publishes to JetStream
// (watermill-nats v2.1.3).
//
// Watermill's page "Forwarder (the outbox pattern)" tells to run a Forwarder
// with a database subscriber and a broker publisher; its page "SQL" names the
// default schema for it, and its page "NATS JetStream" recommends pkg/nats for
// production and TrackMsgId for deduplication. The subscriber's batch is 1000
// instead of 100.
package watermill

import (
	"context"
	_ "embed" // the statements

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/bench/peers/target"
)

// What the library's own publishers write, as statements. Tables are made by
// SetUp, functions by SetupSQL.
var (
	//go:embed setup.sql
	SetupSQL string
	//go:embed fill.sql
	FillSQL string
	//go:embed publish.sql
	PublishSQL string
	//go:embed one.sql
	OneSQL string
)

const (
	topic = "outbox"
	batch = 1000
)

func schema() sql.DefaultPostgreSQLSchema {
	return sql.DefaultPostgreSQLSchema{SubscribeBatchSize: batch}
}

func subscriber(pool *pgxpool.Pool) (*sql.Subscriber, error) {
	return sql.NewSubscriber(sql.BeginnerFromPgx(pool), sql.SubscriberConfig{
		SchemaAdapter: schema(), OffsetsAdapter: sql.DefaultPostgreSQLOffsetsAdapter{}, InitializeSchema: true,
	}, watermill.NopLogger{})
}

// SetUp has the library make its tables.
func SetUp(ctx context.Context, dsn string) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	s, err := subscriber(pool)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // it never subscribed
	return s.SubscribeInitialize(topic)
}

// Run forwards until ctx ends.
func Run(ctx context.Context, t target.Target) error {
	pool, err := pgxpool.New(ctx, t.Postgres)
	if err != nil {
		return err
	}
	defer pool.Close()
	from, err := subscriber(pool)
	if err != nil {
		return err
	}
	to, err := nats.NewPublisher(nats.PublisherConfig{
		URL: t.NATS, JetStream: nats.JetStreamConfig{TrackMsgId: true},
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }() // nothing is buffered
	forward, err := forwarder.NewForwarder(from, to, watermill.NopLogger{}, forwarder.Config{ForwarderTopic: topic})
	if err != nil {
		return err
	}
	return forward.Run(ctx)
}
