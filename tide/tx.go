package tide

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type deliveryKey struct{}

// work is what a handler has begun in the database.
type work struct {
	mu        sync.Mutex
	tx        pgx.Tx
	closed    bool
	completed bool
}

var errOutside = errors.New("the context is not one that a worker gave to a handler")

// Tx returns the transaction of the message that ctx was given for, and begins
// it with the first call. The worker commits it, together with the note that
// the message is processed, when the handler returns nil; otherwise, and when
// the lease was lost, it rolls it back. So what is done by it happens exactly once.
//
// Commit and Rollback of it are errors and do nothing; Begin makes a savepoint.
func Tx(ctx context.Context) (pgx.Tx, error) {
	d, _ := ctx.Value(deliveryKey{}).(*delivery)
	if d == nil {
		return nil, fmt.Errorf("begin the transaction of a message: %w", errOutside)
	}
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	switch {
	case d.tx.closed:
		return nil, fmt.Errorf("begin the transaction of message %d: its handler has returned", d.ID)
	case d.tx.completed:
		return nil, fmt.Errorf("begin the transaction of message %d: it was completed by Complete", d.ID)
	case d.tx.tx == nil:
		tx, err := d.shift.Worker.pool.BeginTx(ctx, d.shift.config.TxOptions)
		if err != nil {
			return nil, fmt.Errorf("begin the transaction of message %d of inbox %q: %w", d.ID, d.Inbox, err)
		}
		d.tx.tx = tx
	}
	return handlerTx{d.tx.tx}, nil
}

// handlerTx leaves the end of the transaction to the worker.
type handlerTx struct{ pgx.Tx }

var errWorkerEnds = errors.New("the worker ends the transaction of a message, by what the handler returns")

func (handlerTx) Commit(context.Context) error   { return errWorkerEnds }
func (handlerTx) Rollback(context.Context) error { return errWorkerEnds }

// Complete notes in a transaction of the handler's own that the message is
// processed; it is for handlers that do not use Tx but, say, database/sql. The
// handler commits that transaction and then returns nil. An error means that
// the lease was lost or that something is wrong: roll back.
func Complete(ctx context.Context, q Querier) error {
	d, _ := ctx.Value(deliveryKey{}).(*delivery)
	if d == nil {
		return fmt.Errorf("complete a message: %w", errOutside)
	}
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	switch {
	case d.tx.closed:
		return fmt.Errorf("complete message %d: its handler has returned", d.ID)
	case d.tx.tx != nil:
		return fmt.Errorf("complete message %d: the transaction that Tx began does it", d.ID)
	}
	d.shift.settle(d)
	if err := complete(ctx, q, d); err != nil {
		return err
	}
	d.tx.completed = true
	return nil
}

func complete(ctx context.Context, q Querier, d *delivery) error {
	var n int
	if err := q.QueryRow(ctx, completeSQL, d.Inbox, d.token, idArray(d)).Scan(&n); err != nil {
		return explained(fmt.Sprintf("complete message %d of inbox %q", d.ID, d.Inbox), err)
	}
	return nil
}

// commit completes the message in the handler's transaction, if it has one,
// and commits.
func (w *work) commit(s *shift, d *delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.tx == nil {
		return nil
	}
	s.settle(d)
	if err := complete(s.settling, w.tx, d); err != nil {
		return errors.Join(err, w.end(s))
	}
	if err := w.tx.Commit(s.settling); err != nil {
		return fmt.Errorf("commit what was done for message %d of inbox %q: %w", d.ID, d.Inbox, err)
	}
	w.tx, w.completed = nil, true
	return nil
}

func (w *work) rollback(s *shift) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if err := w.end(s); err != nil {
		s.log.Warn("cannot roll back what was done for a message; its connection is closed", "error", err)
	}
}

func (w *work) end(s *shift) error {
	if w.tx == nil {
		return nil
	}
	err := w.tx.Rollback(s.settling)
	w.tx = nil
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}

// leaseLost is the SQLSTATE of a token that does not hold its message any more.
const leaseLost = "TD001"

func isLost(err error) bool {
	e := new(pgconn.PgError)
	return errors.As(err, &e) && e.Code == leaseLost
}
