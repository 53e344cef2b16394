package catalog

import (
	"context"
	"strconv"

	"github.com/pg-tide/pg-tide/internal/message"
)

// LoadMark reads what the database remembers of a pipeline's source, and the
// number of the save. Before, the database is asked what it is.
func (c *Catalog) LoadMark(ctx context.Context, pipelineID int64) (message.Mark, int64, error) {
	const doing = "read how far the source was taken in"
	if _, err := c.CheckNode(ctx); err != nil {
		return message.Mark{}, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var (
		m                         message.Mark
		seq                       int64
		name, sequence, delivered string
		adopted                   bool
	)
	err := c.pool.QueryRow(ctx, markLoadSQL, pipelineID).Scan(
		&name, &adopted, &m.Claim, &seq, &m.Origin, &sequence, &delivered, &m.Places, &m.Moved)
	if err != nil {
		return message.Mark{}, 0, c.explain(doing, err)
	}
	if !adopted {
		return message.Mark{}, 0, notAdopted(name)
	}
	if m.Sequence, err = strconv.ParseUint(sequence, 10, 64); err != nil {
		return message.Mark{}, 0, c.explain(doing, err)
	}
	if m.Delivery, err = strconv.ParseUint(delivered, 10, 64); err != nil {
		return message.Mark{}, 0, c.explain(doing, err)
	}
	return m, seq, nil
}

// Every so many saves the older marks go, but for the last few.
const (
	marksPruned = 100
	marksKept   = 10
)

// SaveMark saves m under the number seq. It fails with the verdict superseded
// when another relay owns the pipeline, and with a retry when somebody else
// saved under that number.
func (c *Catalog) SaveMark(ctx context.Context, owner Owner, seq int64, m message.Mark) error {
	const doing = "save how far the source was taken in"
	n, err := c.execOften(ctx, doing, fenced(markSaveSQL),
		owner.PipelineID, c.relay.ID, owner.Fence, seq, m.Origin, strconv.FormatUint(m.Sequence, 10), strconv.FormatUint(m.Delivery, 10), placesOf(m))
	if err == nil && n == 0 {
		return superseded(doing)
	}
	if err == nil {
		err = c.pruneMarks(ctx, owner, seq)
	}
	return err
}

// placesOf is nil for none. The statement takes it as it is: a cast there would
// make it look cheaper to plan with each value.
func placesOf(m message.Mark) any {
	if m.Places == "" {
		return nil
	}
	return m.Places
}

// pruneMarks removes what later marks have replaced, from time to time.
func (c *Catalog) pruneMarks(ctx context.Context, owner Owner, seq int64) error {
	if seq%marksPruned != 0 {
		return nil
	}
	_, err := c.exec(ctx, "remove old marks", markPruneSQL, owner.PipelineID, seq-marksKept)
	return err
}
