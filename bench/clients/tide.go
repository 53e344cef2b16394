package clients

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/tide"
)

// TidePublish creates an order and publishes that it did, in one transaction.
func TidePublish(ctx context.Context, pool *pgxpool.Pool, o Order) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertOrder, o.ID, o.Total); err != nil {
			return err
		}
		_, err := tide.Publish(ctx, tx, "order_events", tide.Event{Type: "order.created", Key: o.ID, Payload: o})
		return err
	})
}

// TideWork makes one payment of each order, until ctx ends.
func TideWork(ctx context.Context, pool *pgxpool.Pool) error {
	worker, err := tide.NewWorker(pool, tide.WorkerConfig{Inbox: "payment_triggers"})
	if err != nil {
		return err
	}
	tide.Handle(worker, "order.created", func(ctx context.Context, _ *tide.Message, o Order) error {
		tx, err := tide.Tx(ctx)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertPayment, o.ID, o.Total)
		return err
	})
	return worker.Run(ctx)
}
