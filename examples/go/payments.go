// Command go is a payment service, an example: for each order in its inbox it
// takes the payment and publishes an event, in one transaction with the mark
// that the order is done.
package main

import (
	"context"
	"errors"
	"log"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type message struct {
	ID         int64
	LeaseToken string
	Payload    struct {
		OrderID  string  `json:"order_id"`
		Customer string  `json:"customer"`
		Amount   float64 `json:"amount"`
	}
}

var (
	errBadOrder        = errors.New("the amount is not above 0") // will never work
	errUnknownCustomer = errors.New("there is no such customer") // may be known soon
)

// session is a connection, or a transaction of it.
type session interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// handle does all of a message's work in a transaction, or in a savepoint of one.
func handle(ctx context.Context, db session, m message) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		order, work := m.Payload, &pgx.Batch{}
		if order.Amount <= 0 {
			return errBadOrder
		}
		work.Queue(`insert into payments (order_id, customer, amount) values ($1, $2, $3)`, order.OrderID, order.Customer, order.Amount)
		event := map[string]any{"event_type": "payment.received", "order_id": order.OrderID, "customer": order.Customer, "amount": order.Amount}
		work.Queue(`select tide.outbox_publish('payment_events', 'payments', $1::jsonb, key => $2)`, event, order.Customer)
		work.Queue(`update customers set paid = paid + $1 where id = $2`, order.Amount, order.Customer).Exec(func(done pgconn.CommandTag) error {
			if done.RowsAffected() == 0 {
				return errUnknownCustomer
			}
			return nil
		})
		work.Queue(`select tide.inbox_complete('payment_triggers', $1, $2)`, m.LeaseToken, []int64{m.ID})
		return tx.SendBatch(ctx, work).Close()
	})
}

func fail(ctx context.Context, db session, m message, why error) error {
	log.Printf("message %d: %v", m.ID, why)
	var retryIn *time.Duration // nil: longer each time
	if errors.Is(why, errUnknownCustomer) {
		retryIn = new(500 * time.Millisecond)
	}
	_, err := db.Exec(ctx, `select tide.inbox_fail('payment_triggers', $1, $2, $3, retry_in => $4, give_up => $5)`,
		m.LeaseToken, []int64{m.ID}, why.Error(), retryIn, errors.Is(why, errBadOrder))
	return err
}
