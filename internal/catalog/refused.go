package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// findRefused tries halves of n rows, and halves of halves, in a transaction
// that is rolled back, until it knows each one that is refused for what it
// holds; explain says why in words.
func (c *Catalog) findRefused(ctx context.Context, n int, insert func(tx pgx.Tx, from, until int) error,
	explain func(err error) error) (map[int]error, error) {
	tx, err := c.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return nil, err
	}
	// Nothing of the search stays, whatever happens.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	failed := map[int]error{}
	var search func(from, until int) error
	search = func(from, until int) error {
		err := tryOut(ctx, tx, func(attempt pgx.Tx) error { return insert(attempt, from, until) })
		switch {
		case err == nil:
			return nil
		case !isDataError(err):
			return err
		case until-from == 1:
			failed[from] = delivery.Reject(explain(err))
			return nil
		}
		middle := (from + until) / 2
		if err := search(from, middle); err != nil {
			return err
		}
		return search(middle, until)
	}
	if err := search(0, n); err != nil {
		return nil, err
	}
	return failed, nil
}

// tryOut does something and undoes it.
func tryOut(ctx context.Context, tx pgx.Tx, do func(attempt pgx.Tx) error) error {
	attempt, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	err = do(attempt)
	if rolled := attempt.Rollback(ctx); rolled != nil {
		return rolled
	}
	return err
}
