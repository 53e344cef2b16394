package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// idlePoll is how often a worker looks without having been notified.
const idlePoll = 500 * time.Millisecond

// worker processes an inbox as an application would: in one transaction it
// does its own write and marks the message processed, so that the effect
// happens exactly once.
type worker struct {
	service *service
	inbox   string
	insert  string // the service's own write
	effect  map[string]string
	// processed is told of each message after its transaction has committed.
	processed func(m message, at time.Time)
}

// message is what a worker gets from tide.inbox_pending.
type message struct {
	id         int64
	eventID    string
	key        string
	seq        int64
	eventType  string
	receivedAt time.Time
}

func paymentWorker(s *service, processed func(message, time.Time)) *worker {
	return &worker{service: s, inbox: "payment_triggers", insert: query("insert_payment"), processed: processed,
		effect: map[string]string{"order.created": "taken", "order.cancelled": "refunded"}}
}

func shippingWorker(s *service, processed func(message, time.Time)) *worker {
	return &worker{service: s, inbox: "shipping_triggers", insert: query("insert_shipment"), processed: processed,
		effect: map[string]string{"order.created": "shipped", "stock.changed": "noted"}}
}

// run works until ctx ends, on one session that also gets the notifications.
func (w *worker) run(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, w.service.dsn)
	if err != nil {
		return fmt.Errorf("connect the worker of %s: %w", w.service.name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is done
	channel := pgx.Identifier{"tide_inbox_" + w.inbox}.Sanitize()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return fmt.Errorf("listen to the inbox %s: %w", w.inbox, err)
	}
	for {
		n, err := w.batch(ctx, conn)
		if err != nil {
			return fmt.Errorf("process the inbox %s: %w", w.inbox, err)
		}
		if n > 0 {
			continue
		}
		wait, cancel := context.WithTimeout(ctx, idlePoll)
		_, err = conn.WaitForNotification(wait)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("wait for the inbox %s: %w", w.inbox, err)
		}
	}
}

// batch processes what is pending, up to a limit, in one transaction.
func (w *worker) batch(ctx context.Context, conn *pgx.Conn) (int, error) {
	var done []message
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, query("pending"), w.inbox)
		if err != nil {
			return err
		}
		done, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m message, err error) {
			err = row.Scan(&m.id, &m.eventID, &m.key, &m.seq, &m.eventType, &m.receivedAt)
			return m, err
		})
		if err != nil || len(done) == 0 {
			return err
		}
		batch := &pgx.Batch{}
		for _, m := range done {
			batch.Queue(w.insert, m.eventID, m.key, m.seq, w.effect[m.eventType])
			batch.Queue(query("mark_processed"), w.inbox, m.id)
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return 0, err
	}
	now := time.Now()
	for _, m := range done {
		w.processed(m, now)
	}
	return len(done), nil
}
