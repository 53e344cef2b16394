package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// StepFailed is the action of a step that could not be taken; Detail says why.
const StepFailed = "failed"

// Step is what one step of maintenance did.
type Step struct {
	// Outbox is empty for a partition that a dropped one left.
	Outbox string
	// Action is prepared, announced, rotated, emptied or failed.
	Action string
	Part   int
	Detail string
}

// OutboxSize is how large an outbox is and what keeps it so.
type OutboxSize struct {
	Name      string
	Retention time.Duration
	Bytes     int64
	WarnBytes int64
	// HeldBy are the pipelines that have not delivered an event which is older
	// than the retention, the furthest behind first; HeldSince is from when on
	// it is, zero when none holds back.
	HeldBy    []string
	HeldSince time.Time
	// Held is how long that is, by the database's clock.
	Held time.Duration
}

// Maintain takes one step of what has to be done from time to time. There is
// nothing left to do when it returns no step, or another session is at it.
func (c *Catalog) Maintain(ctx context.Context) ([]Step, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var steps []Step
	batch := &pgx.Batch{}
	batch.Queue(maintainIsolationSQL)
	batch.Queue(maintainSQL).Query(func(rows pgx.Rows) (err error) {
		steps, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Step])
		return err
	})
	err := c.pool.SendBatch(ctx, batch).Close()
	return steps, c.explain("maintain the outboxes", err)
}

// InboxStep is what one step of cleaning an inbox did.
type InboxStep struct {
	// Inbox and Action are empty when there is nothing to do.
	Inbox, Action string
	// Waiting is an inbox whose cleaning waits for somebody's lock, and Waited
	// for how long; empty when none does.
	Waiting string
	Waited  time.Duration
}

// MaintainInboxes takes one step of cleaning an inbox. There is nothing left
// to do when it names no inbox.
func (c *Catalog) MaintainInboxes(ctx context.Context) (InboxStep, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var step InboxStep
	batch := &pgx.Batch{}
	batch.Queue(maintainIsolationSQL)
	batch.Queue(inboxMaintainSQL).QueryRow(func(row pgx.Row) error {
		var waited float64
		err := row.Scan(&step.Inbox, &step.Action, &step.Waiting, &waited)
		step.Waited = seconds(waited)
		return err
	})
	err := c.pool.SendBatch(ctx, batch).Close()
	return step, c.explain("maintain the inboxes", err)
}

// Outboxes returns how large the outboxes are.
func (c *Catalog) Outboxes(ctx context.Context) ([]OutboxSize, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := c.pool.Query(ctx, outboxSizesSQL)
	if err != nil {
		return nil, c.explain("read the outboxes' sizes", err)
	}
	sizes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o OutboxSize, err error) {
		var retention, held float64
		var since *time.Time
		if err := row.Scan(&o.Name, &retention, &o.Bytes, &o.WarnBytes, &o.HeldBy, &since, &held); err != nil {
			return o, err
		}
		o.Retention = seconds(retention)
		if since != nil {
			o.HeldSince, o.Held = *since, seconds(held)
		}
		return o, nil
	})
	return sizes, c.explain("read the outboxes' sizes", err)
}

// seconds is a duration; the longest one for what does not fit.
func seconds(s float64) time.Duration {
	const most = float64(1<<63-1) / float64(time.Second)
	if s >= most {
		return 1<<63 - 1
	}
	return time.Duration(s * float64(time.Second))
}
