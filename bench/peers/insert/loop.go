// Package insert is an inbox as people write it: each message of a JetStream
// consumer is inserted by one statement, "on conflict do nothing" by its id,
// and acknowledged. PostgreSQL's documentation of INSERT ("ON CONFLICT
// Clause") is where the statement is from, the README of nats.go's package
// jetstream ("Using Consume() receive messages in a callback") the loop.
package insert

import (
	"context"
	_ "embed" // the statements
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/bench/peers/target"
)

var (
	// SetupSQL makes the inbox.
	//go:embed setup.sql
	SetupSQL string
	//go:embed insert.sql
	insertSQL string
)

// mostPending is how many messages may be delivered and not acknowledged.
const mostPending = 4000

// Run inserts with a number of workers, until one fails.
func Run(ctx context.Context, t target.Target, workers int) error {
	config, err := pgxpool.ParseConfig(t.Postgres)
	if err != nil {
		return err
	}
	config.MaxConns = int32(workers)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	nc, err := natsgo.Connect(t.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, t.Stream, jetstream.ConsumerConfig{
		Durable: t.Durable, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: mostPending,
	})
	if err != nil {
		return err
	}
	messages, failed := make(chan jetstream.Msg), make(chan error, workers)
	for range workers {
		go func() { failed <- work(ctx, pool, messages) }()
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		select {
		case messages <- m:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessages(mostPending))
	if err != nil {
		return err
	}
	defer consuming.Stop()
	return <-failed
}

func work(ctx context.Context, pool *pgxpool.Pool, messages <-chan jetstream.Msg) error {
	for {
		select {
		case m := <-messages:
			h := m.Headers()
			_, err := pool.Exec(ctx, insertSQL, h.Get(natsgo.MsgIdHdr), h.Get("ce-subject"), h.Get("ce-type"), m.Data())
			if err != nil {
				return fmt.Errorf("insert: %w", err)
			}
			if err := m.Ack(); err != nil {
				return fmt.Errorf("acknowledge: %w", err)
			}
		case <-ctx.Done():
			return errors.New("stopped")
		}
	}
}
