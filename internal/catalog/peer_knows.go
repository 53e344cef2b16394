package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// InboxKnows says whether an inbox still has, or remembers, an event that it
// acknowledged at that time.
func (p *Peer) InboxKnows(ctx context.Context, inbox, eventID string, at time.Time) (delivery.Proof, error) {
	sql := strings.Replace(peerInboxKnowsSQL, `"{0}_inbox"`, pgx.Identifier{inbox + "_inbox"}.Sanitize(), 1)
	return p.knows(ctx, sql, fmt.Sprintf("inbox %q", inbox), inbox, eventID, at)
}

// OutboxKnows says whether an outbox still knows an event that it acknowledged
// at that time.
func (p *Peer) OutboxKnows(ctx context.Context, outbox, eventID string, at time.Time) (delivery.Proof, error) {
	return p.knows(ctx, peerOutboxKnowsSQL, fmt.Sprintf("outbox %q", outbox), outbox, eventID, at)
}

// knows concludes nothing where it may not look, where there is nothing to
// look into, or where the event may have been forgotten in time.
func (p *Peer) knows(ctx context.Context, sql, what, name, eventID string, at time.Time) (delivery.Proof, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var known, memorable bool
	err := p.catalog.pool.QueryRow(ctx, sql, eventID, at, name).Scan(&known, &memorable)
	switch state := sqlState(err); {
	case state == "42501" || state == "42P01" || state == "22P02" || errors.Is(err, pgx.ErrNoRows):
		return delivery.Proof{}, nil
	case err != nil:
		return delivery.Proof{}, p.judge("look for an event that was delivered", err)
	case known:
		return delivery.Proof{Holds: true}, nil
	case !memorable:
		return delivery.Proof{}, nil
	}
	return delivery.Proof{Lost: fmt.Sprintf("%s of %s has lost events that it had acknowledged, at least %s of %s", what, p.catalog.where,
		eventID, at.UTC().Format("2006-01-02 15:04:05 MST"))}, nil
}
