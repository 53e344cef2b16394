// Package skiplocked is an outbox worker as people write it: a transaction
// takes the oldest rows that no other worker has locked, publishes them,
// deletes them and commits. Any number of workers may run.
//
// PostgreSQL's documentation of SELECT ("The Locking Clause") says that SKIP
// LOCKED is there for several consumers of a queue-like table. Publishing is
// asynchronous, the acknowledgements are waited for once a batch, as the
// README of nats.go's package jetstream shows ("Async publish"), and each
// message has the event's id for JetStream's deduplication.
package skiplocked

import (
	"context"
	_ "embed" // the statements
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/bench/peers/target"
)

// The outbox, how it is filled, how one event is put into it, and how one with
// an id that is known before.
var (
	//go:embed setup.sql
	SetupSQL string
	//go:embed fill.sql
	FillSQL string
	//go:embed publish.sql
	PublishSQL string
	//go:embed one.sql
	OneSQL string
	//go:embed take.sql
	takeSQL string
)

const (
	batch = 1000
	// pollEvery is how long a worker rests when it found nothing.
	pollEvery = 50 * time.Millisecond
)

type event struct {
	id      int64
	eventID string
	payload []byte
}

// Run has a number of workers, until one fails.
func Run(ctx context.Context, t target.Target, workers int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, workers)
	for range workers {
		go func() { ended <- work(ctx, t) }()
	}
	var failed []error
	for range workers {
		failed = append(failed, <-ended)
		cancel()
	}
	return errors.Join(failed...)
}

func work(ctx context.Context, t target.Target) error {
	db, err := pgx.Connect(ctx, t.Postgres)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }() // it is of no use any more
	nc, err := natsgo.Connect(t.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for {
		moved, err := once(ctx, db, js, t.Subject)
		if err != nil {
			return err
		}
		if moved > 0 {
			continue
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// once moves one batch in one transaction.
func once(ctx context.Context, db *pgx.Conn, js jetstream.JetStream, subject string) (int, error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // after a commit it does nothing
	rows, err := tx.Query(ctx, takeSQL, batch)
	if err != nil {
		return 0, err
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e event, err error) {
		return e, row.Scan(&e.id, &e.eventID, &e.payload)
	})
	if err != nil {
		return 0, err
	}
	// "returning" promises no order
	slices.SortFunc(events, func(a, b event) int { return int(a.id - b.id) })
	acks := make([]jetstream.PubAckFuture, len(events))
	for i, e := range events {
		m := &natsgo.Msg{Subject: subject, Data: e.payload, Header: natsgo.Header{jetstream.MsgIDHeader: {e.eventID}}}
		if acks[i], err = js.PublishMsgAsync(m); err != nil {
			return 0, fmt.Errorf("publish: %w", err)
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return 0, fmt.Errorf("publish: %w", err)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return len(events), tx.Commit(ctx)
}
