package yardstick

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	//go:embed queries/forward_page.sql
	pageSQL string
	//go:embed queries/forward_save.sql
	saveSQL string
	//go:embed queries/forward_setup.sql
	forwardSetupSQL string
)

// page is how many events are read, and wait for their acknowledgements, at once.
const page = 1000

// event is a row of the outbox.
type event struct {
	id        int64
	eventID   string
	key       string
	published time.Time
	payload   []byte
}

// Headers are what a message carries besides its id: nothing, or what the
// product's have.
type Headers bool

// The two kinds of headers.
const (
	IDAlone     Headers = false
	CloudEvents Headers = true
)

// PrepareForward makes the table that holds the position.
func PrepareForward(ctx context.Context, db *pgx.Conn) error {
	_, err := db.Exec(ctx, forwardSetupSQL)
	return err
}

// Forward reads an outbox by its primary key, publishes asynchronously with
// message ids, waits for the acknowledgements and saves the position, until
// there is nothing left. It returns how many events it has moved.
func Forward(ctx context.Context, db *pgx.Conn, js jetstream.JetStream, subject string, headers Headers) (int, error) {
	last, moved := int64(0), 0
	for {
		events, err := readPage(ctx, db, last)
		if err != nil || len(events) == 0 {
			return moved, err
		}
		acks := make([]jetstream.PubAckFuture, len(events))
		for i := range events {
			if acks[i], err = js.PublishMsgAsync(messageOf(&events[i], subject, headers)); err != nil {
				return moved, fmt.Errorf("publish: %w", err)
			}
		}
		for _, ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				return moved, fmt.Errorf("publish: %w", err)
			case <-ctx.Done():
				return moved, ctx.Err()
			}
		}
		last = events[len(events)-1].id
		moved += len(events)
		if _, err := db.Exec(ctx, saveSQL, last); err != nil {
			return moved, fmt.Errorf("save the position: %w", err)
		}
	}
}

func readPage(ctx context.Context, db *pgx.Conn, after int64) ([]event, error) {
	rows, err := db.Query(ctx, pageSQL, after, page)
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	events := make([]event, 0, page)
	for rows.Next() {
		var e event
		if err := rows.Scan(&e.id, &e.eventID, &e.key, &e.published, &e.payload); err != nil {
			rows.Close()
			return nil, fmt.Errorf("read the outbox: %w", err)
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

func messageOf(e *event, subject string, headers Headers) *natsgo.Msg {
	m := &natsgo.Msg{Subject: subject, Data: e.payload, Header: natsgo.Header{jetstream.MsgIDHeader: {e.eventID}}}
	if headers == CloudEvents {
		m.Header["ce-specversion"] = []string{"1.0"}
		m.Header["ce-id"] = []string{e.eventID}
		m.Header["ce-source"] = []string{"/00000000-0000-4000-8000-000000000000/orders"}
		m.Header["ce-type"] = []string{"orders.insert"}
		m.Header["ce-time"] = []string{e.published.UTC().Format(time.RFC3339Nano)}
		m.Header["ce-subject"] = []string{e.key}
	}
	return m
}
