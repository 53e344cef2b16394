package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// The traffic is no benchmark: it has what makes a bus hard. Transactions
// overlap, some wait before they commit, some roll back, and stock rows are
// contended.
const (
	leastWriters = 4
	mostWriters  = 32
	// A transaction that waits holds its writer up, so each can do no more.
	perWriter = 50 // a second
	skus      = 8
	// of 100 transactions
	rollsBack = 10
	waits     = 5
	cancels   = 20
	longest   = 150 * time.Millisecond
)

// traffic publishes as the order and inventory services would.
type traffic struct {
	orders, inventory *service
	ledger            *ledger
	follower          *follower
	rate              int // orders a second
}

// run publishes until ctx ends. It finishes the transactions that are open,
// so that the ledger and the databases agree.
func (t *traffic) run(ctx context.Context) error {
	var works []func() error
	writers := min(max(t.rate/perWriter, leastWriters), mostWriters)
	each := float64(t.rate) / float64(writers)
	for n := range writers {
		w := &orderWriter{traffic: t, number: n}
		works = append(works, func() error { return pace(ctx, each, w.next) })
	}
	for range writers / 2 {
		works = append(works, func() error { return pace(ctx, each, t.moveStock) })
	}
	return together(works...)
}

// pace calls work so often a second, or as often as it can, until ctx ends.
func pace(ctx context.Context, perSecond float64, work func(context.Context) error) error {
	const tick = 5 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	since, done := time.Now(), 0
	for {
		for due := int(time.Since(since).Seconds() * perSecond); done < due; done++ {
			if ctx.Err() != nil {
				return nil
			}
			// What was begun is ended, whatever becomes of ctx.
			if err := work(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// orderWriter creates orders and cancels some of its own later.
type orderWriter struct {
	*traffic
	number, created int
	open            []string
}

func (w *orderWriter) next(ctx context.Context) error {
	if len(w.open) > 3 && chance(cancels) {
		order := w.open[0]
		done, err := w.publish(ctx, w.orders, event{outbox: "order_events", key: order, seq: 2, eventType: "order.cancelled"},
			func(tx pgx.Tx, e *event) error {
				if _, err := tx.Exec(ctx, query("cancel_order"), order); err != nil {
					return err
				}
				return tx.QueryRow(ctx, query("publish_cancelled"), order).Scan(&e.id)
			})
		if done {
			w.open = w.open[1:]
		}
		return err
	}
	w.created++
	order := fmt.Sprintf("ORD-%d-%05d", w.number+1, w.created)
	customer, total := fmt.Sprintf("CUST-%d", rand.IntN(100)), float64(rand.IntN(50000))/100
	done, err := w.publish(ctx, w.orders, event{outbox: "order_events", key: order, seq: 1, eventType: "order.created"},
		func(tx pgx.Tx, e *event) error {
			if _, err := tx.Exec(ctx, query("create_order"), order, customer, total); err != nil {
				return err
			}
			return tx.QueryRow(ctx, query("publish_created"), order, customer, total).Scan(&e.id)
		})
	if done {
		w.open = append(w.open, order)
	}
	return err
}

// moveStock changes one of a few rows: the lock on it orders its events.
func (t *traffic) moveStock(ctx context.Context) error {
	sku, by := fmt.Sprintf("SKU-%d", 1+rand.IntN(skus)), rand.IntN(21)-10
	_, err := t.publish(ctx, t.inventory, event{outbox: "stock_events", key: sku, eventType: "stock.changed"},
		func(tx pgx.Tx, e *event) error {
			var onHand int
			if err := tx.QueryRow(ctx, query("move_stock"), sku, by).Scan(&onHand, &e.seq); err != nil {
				return err
			}
			return tx.QueryRow(ctx, query("publish_stock"), sku, onHand, e.seq).Scan(&e.id)
		})
	return err
}

// publish runs write in a transaction, now and then waits before its end, and
// commits or takes everything back. It tells the ledger which.
func (t *traffic) publish(ctx context.Context, s *service, e event, write func(tx pgx.Tx, e *event) error) (committed bool, err error) {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return false, fmt.Errorf("publish to %s: %w", e.outbox, err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // after a commit this does nothing
	publishing := time.Now()
	if err := write(tx, &e); err != nil {
		return false, fmt.Errorf("publish to %s: %w", e.outbox, err)
	}
	waited := chance(waits)
	if waited {
		pause(ctx, rand.N(longest))
	}
	if chance(rollsBack) {
		if err := tx.Rollback(ctx); err != nil {
			return false, fmt.Errorf("roll back: %w", err)
		}
		t.ledger.rollBack(e.outbox)
		return false, nil
	}
	if err := tx.Commit(ctx); err != nil {
		return false, fmt.Errorf("commit to %s: %w", e.outbox, err)
	}
	e.committed = time.Now()
	t.ledger.commit(e)
	// The story is that of the bus, not of a transaction that took its time.
	if e.eventType == "order.created" && !waited {
		t.follower.offer(e, publishing)
	}
	return true, nil
}

func chance(percent int) bool { return rand.IntN(100) < percent }

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
