package clients

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// WatermillPublish creates an order and publishes that it did, in one
// transaction. The topic's tables are there already.
func WatermillPublish(ctx context.Context, pool *pgxpool.Pool, o Order) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertOrder, o.ID, o.Total); err != nil {
			return err
		}
		publisher, err := sql.NewPublisher(sql.TxFromPgx(tx), sql.PublisherConfig{SchemaAdapter: sql.DefaultPostgreSQLSchema{}}, watermill.NopLogger{})
		if err != nil {
			return err
		}
		payload, err := json.Marshal(o)
		if err != nil {
			return err
		}
		return publisher.Publish("order_events", message.NewMessageWithContext(ctx, watermill.NewUUID(), payload))
	})
}

// WatermillWork makes one payment of each order, until ctx ends.
func WatermillWork(ctx context.Context, pool *pgxpool.Pool) error {
	subscriber, err := sql.NewSubscriber(sql.BeginnerFromPgx(pool), sql.SubscriberConfig{
		ConsumerGroup:    "payments",
		SchemaAdapter:    sql.DefaultPostgreSQLSchema{},
		OffsetsAdapter:   sql.DefaultPostgreSQLOffsetsAdapter{},
		InitializeSchema: true,
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	router.AddConsumerHandler("payments", "order_events", subscriber, func(m *message.Message) error {
		tx, ok := sql.TxFromContext(m.Context())
		if !ok {
			return errors.New("the subscriber's transaction is not in the context")
		}
		var o Order
		if err := json.Unmarshal(m.Payload, &o); err != nil {
			return err
		}
		_, err := tx.ExecContext(m.Context(), insertPayment, o.ID, o.Total)
		return err
	})
	return router.Run(ctx)
}
