package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/message"
)

// PrunePositions thins out the saves of a pipeline in [from, until) to one a minute.
func (c *Catalog) PrunePositions(ctx context.Context, owner Owner, from, until int64) error {
	_, err := c.exec(ctx, "remove old positions", positionPruneSQL, owner.PipelineID, from, until)
	return err
}

// ExpirePositions removes the saves before that are older than the outbox's retention.
func (c *Catalog) ExpirePositions(ctx context.Context, owner Owner, before int64) error {
	_, err := c.exec(ctx, "remove positions from before the retention", positionExpireSQL, owner.PipelineID, before)
	return err
}

// MarkedPositions returns the saves of a pipeline that have a mark, newest
// first; all of them when limit is 0.
func (c *Catalog) MarkedPositions(ctx context.Context, owner Owner, limit int) ([]message.Saved, error) {
	const doing = "read earlier positions"
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var most *int
	if limit > 0 {
		most = &limit
	}
	rows, err := c.pool.Query(ctx, positionMarkedSQL, owner.PipelineID, most)
	if err != nil {
		return nil, c.explain(doing, err)
	}
	saved, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s message.Saved, err error) {
		return s, row.Scan(&s.Sequence, &s.Mark, &s.At)
	})
	if err != nil {
		return nil, c.explain(doing, err)
	}
	return saved, nil
}

// RewindPosition saves, under sequence, what the position back said; 0 stands
// for the oldest event retained. It fails as SavePosition does.
func (c *Catalog) RewindPosition(ctx context.Context, owner Owner, sequence, back int64) error {
	const doing = "go back to an earlier position"
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var saved int
	err := c.pool.QueryRow(ctx, positionRewindSQL, owner.PipelineID, c.relay.ID, owner.Fence, sequence, back).Scan(&saved)
	if err != nil {
		return c.explain(doing, err)
	}
	if saved == 0 {
		return superseded(doing)
	}
	return nil
}
