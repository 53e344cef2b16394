package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// leaseLost is the SQLSTATE of what a lease was not good for any more.
const leaseLost = "TD001"

// Claims works the messages of one inbox by lease, for a pipeline. Leases
// prove themselves: an owner that was superseded can settle what it has
// claimed, and nothing else.
type Claims struct {
	catalog *Catalog
	inbox   string
	worker  string
}

// Claims returns the claims on the inbox of a pipeline.
func (c *Catalog) Claims(spec pipeline.Spec) *Claims {
	return &Claims{catalog: c, inbox: spec.Endpoint, worker: fmt.Sprintf("pg-tide %s, pipeline %s", c.relay.ID, spec.Name)}
}

// Claim takes messages for as long as the lease lasts, oldest first; in an
// ordered inbox at most one of each key.
func (c *Claims) Claim(ctx context.Context, most int, lease time.Duration) (claimed []message.Claimed, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if !c.catalog.strictIsolation.Load() {
		err = c.catalog.often(ctx, func(conn *pgx.Conn) error {
			claimed, err = c.claim(ctx, conn, most, lease)
			return err
		}, inboxClaimSQL)
		if sqlState(err) != "25001" {
			return claimed, c.catalog.explain("claim messages of the inbox", err)
		}
		c.catalog.strictIsolation.Store(true)
	}
	err = pgx.BeginTxFunc(ctx, c.catalog.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		claimed, err = c.claim(ctx, tx, most, lease)
		return err
	})
	return claimed, c.catalog.explain("claim messages of the inbox", err)
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (c *Claims) claim(ctx context.Context, on querier, most int, lease time.Duration) ([]message.Claimed, error) {
	rows, err := on.Query(ctx, inboxClaimSQL, c.inbox, c.worker, most, lease.Seconds())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m message.Claimed, err error) {
		var payload, headers string
		one := &m.Message
		err = row.Scan(&m.ID, &m.Token, &m.Attempts, &one.EventID, &one.Source, &one.Stream, &one.Key, &one.Op, &one.EventType,
			&payload, &headers, &one.Time)
		one.Payload, one.Headers, one.Outbox = []byte(payload), []byte(headers), message.OutboxOf(one.Source)
		return m, err
	})
}

// Complete marks messages of one claim as processed. Like those that follow it
// fails with delivery.ErrLeaseLost when one of them is not held any more, and
// does nothing then.
func (c *Claims) Complete(ctx context.Context, token string, ids []int64) error {
	_, err := c.settle(ctx, "complete messages of the inbox", inboxCompleteSQL, token, ids)
	return err
}

// Fail notes that a message failed, to be tried again after retryIn (0: after
// a pause that doubles each time), or never. It says whether it is a dead
// letter now.
func (c *Claims) Fail(ctx context.Context, token string, id int64, reason string, retryIn time.Duration, giveUp bool) (dead bool, err error) {
	var pause *float64
	if retryIn > 0 {
		seconds := retryIn.Seconds()
		pause = &seconds
	}
	n, err := c.settle(ctx, "note the failure of a message of the inbox", inboxFailSQL, token, id, reason, pause, giveUp)
	return n > 0, err
}

// Extend lets the lease on messages last for so long from now.
func (c *Claims) Extend(ctx context.Context, token string, ids []int64, lease time.Duration) error {
	_, err := c.settle(ctx, "extend the lease on messages of the inbox", inboxExtendSQL, token, ids, lease.Seconds())
	return err
}

// Release gives messages back; the attempt does not count.
func (c *Claims) Release(ctx context.Context, token string, ids []int64, retryIn time.Duration) error {
	_, err := c.settle(ctx, "release messages of the inbox", inboxReleaseSQL, token, ids, retryIn.Seconds())
	return err
}

func (c *Claims) settle(ctx context.Context, doing, sql string, args ...any) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = c.catalog.often(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sql, append([]any{c.inbox}, args...)...).Scan(&n)
	}, sql)
	if sqlState(err) == leaseLost {
		return 0, fmt.Errorf("%s: %w", doing, delivery.ErrLeaseLost)
	}
	return n, c.catalog.explain(doing, err)
}
