package clients

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// OrderCreated is River's name for the job.
type OrderCreated struct{ Order }

// Kind is what River knows the job by.
func (OrderCreated) Kind() string { return "order.created" }

// RiverPublish creates an order and inserts a job for it, in one transaction.
func RiverPublish(ctx context.Context, pool *pgxpool.Pool, o Order) error {
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertOrder, o.ID, o.Total); err != nil {
			return err
		}
		_, err := client.InsertTx(ctx, tx, OrderCreated{o}, nil)
		return err
	})
}

type payer struct {
	river.WorkerDefaults[OrderCreated]
	pool *pgxpool.Pool
}

// Work makes one payment of an order.
func (p *payer) Work(ctx context.Context, job *river.Job[OrderCreated]) error {
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertPayment, job.Args.ID, job.Args.Total); err != nil {
			return err
		}
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
}

// RiverWork makes one payment of each order, until ctx ends.
func RiverWork(ctx context.Context, pool *pgxpool.Pool) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, &payer{pool: pool})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 10}},
		Workers: workers,
	})
	if err != nil {
		return err
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-ctx.Done()
	return client.Stop(context.WithoutCancel(ctx))
}
