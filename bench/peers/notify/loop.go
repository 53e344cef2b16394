// Package notify is an outbox poller as people write it: it reads by the
// primary key what is after the last id that it has seen, and a trigger
// notifies it of each event.
//
// PostgreSQL's documentation of NOTIFY tells to put it into a trigger when it
// signals changes of a table. Publishing is asynchronous, as the README of
// nats.go's package jetstream shows ("Async publish"), and each message has
// the event's id for JetStream's deduplication.
package notify

import (
	"context"
	_ "embed" // the statements
	"fmt"
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
	//go:embed page.sql
	pageSQL string
	//go:embed position.sql
	positionSQL string
	//go:embed save.sql
	saveSQL string
)

const (
	page = 1000
	// pollEvery is when it looks again without having been told.
	pollEvery = time.Second
)

type event struct {
	id      int64
	eventID string
	payload []byte
}

// Run reads and publishes until something fails.
func Run(ctx context.Context, t target.Target) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	listener, err := pgx.Connect(ctx, t.Postgres)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close(context.WithoutCancel(ctx)) }() // it is of no use any more
	if _, err := listener.Exec(ctx, "listen outbox"); err != nil {
		return err
	}
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
	told := make(chan struct{}, 1)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		cancel(listen(ctx, listener, told))
	}()
	defer func() { cancel(nil); <-listening }()
	return follow(ctx, db, js, t.Subject, told)
}

// listen passes on that there was a notification; many are as good as one.
func listen(ctx context.Context, listener *pgx.Conn, told chan<- struct{}) error {
	for {
		if _, err := listener.WaitForNotification(ctx); err != nil {
			return err
		}
		select {
		case told <- struct{}{}:
		default:
		}
	}
}

func follow(ctx context.Context, db *pgx.Conn, js jetstream.JetStream, subject string, told <-chan struct{}) error {
	var last int64
	if err := db.QueryRow(ctx, positionSQL).Scan(&last); err != nil {
		return err
	}
	for {
		events, err := read(ctx, db, last)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			select {
			case <-told:
			case <-time.After(pollEvery):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		if err := publish(ctx, js, subject, events); err != nil {
			return err
		}
		last = events[len(events)-1].id
		if _, err := db.Exec(ctx, saveSQL, last); err != nil {
			return err
		}
	}
}

func read(ctx context.Context, db *pgx.Conn, last int64) ([]event, error) {
	rows, err := db.Query(ctx, pageSQL, last, page)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e event, err error) {
		return e, row.Scan(&e.id, &e.eventID, &e.payload)
	})
}

func publish(ctx context.Context, js jetstream.JetStream, subject string, events []event) (err error) {
	acks := make([]jetstream.PubAckFuture, len(events))
	for i, e := range events {
		m := &natsgo.Msg{Subject: subject, Data: e.payload, Header: natsgo.Header{jetstream.MsgIDHeader: {e.eventID}}}
		if acks[i], err = js.PublishMsgAsync(m); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("publish: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
