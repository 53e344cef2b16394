package tidetest

import (
	"context"
	"crypto/rand"
	_ "embed" // the statements are files of their own
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/tide"
)

var (
	//go:embed queries/deliver.sql
	deliverSQL string
	//go:embed queries/arrived.sql
	arrivedSQL string
)

// Source is where events that Deliver stores say they come from.
const Source = "/tidetest/by_hand"

// Deliver stores an event in an inbox and notifies its workers, as a relay
// would that received it, and returns its event id. One that is there already
// is not stored again.
func (db *DB) Deliver(inbox string, e tide.Event) (eventID string) {
	db.t.Helper()
	if e.ID == "" {
		e.ID = newID()
	}
	if e.Stream == "" {
		e.Stream = "by_hand"
	}
	if e.Op == "" {
		e.Op = "insert"
	}
	headers := map[string]any{}
	for name, value := range e.Headers {
		headers[name] = value
	}
	if e.Type != "" {
		headers["event_type"] = e.Type
	}
	payload, err := json.Marshal(e.Payload)
	if err != nil {
		db.t.Fatalf("write the payload of an event of type %q: %v", e.Type, err)
	}
	written, err := json.Marshal(headers)
	if err != nil {
		db.t.Fatalf("write the headers of an event of type %q: %v", e.Type, err)
	}
	var key *string
	if e.Key != "" {
		key = &e.Key
	}
	_, err = db.Pool.Exec(db.t.Context(), on(deliverSQL, inbox), inbox, e.ID, Source, e.Stream, key, e.Op, string(payload), string(written))
	if err != nil {
		db.t.Fatalf("deliver to inbox %q: %v", inbox, err)
	}
	return e.ID
}

func on(statement, inbox string) string {
	return strings.ReplaceAll(statement, "{inbox}", pgx.Identifier{inbox + "_inbox"}.Sanitize())
}

func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// WaitMessage waits until a message that match accepts is in an inbox, worked
// or not, and returns it. It is notified of messages, and does not ask for them.
func (db *DB) WaitMessage(inbox string, match func(*tide.Message) bool) *tide.Message {
	db.t.Helper()
	ctx, cancel := context.WithTimeoutCause(db.t.Context(), Patience, errors.New("no such message has arrived"))
	defer cancel()
	m, err := db.waitMessage(ctx, inbox, match)
	if err != nil {
		db.t.Fatalf("wait for a message of inbox %q: %v", inbox, errors.Join(context.Cause(ctx), err))
	}
	return m
}

func (db *DB) waitMessage(ctx context.Context, inbox string, match func(*tide.Message) bool) (*tide.Message, error) {
	conn, err := pgx.ConnectConfig(ctx, db.Pool.Config().ConnConfig)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is left to be said
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{"tide_inbox_" + inbox}.Sanitize()); err != nil {
		return nil, err
	}
	for {
		// All of them each time: ids become visible in another order than they are drawn.
		rows, err := conn.Query(ctx, on(arrivedSQL, inbox))
		if err != nil {
			return nil, err
		}
		arrived, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*tide.Message, error) {
			m := &tide.Message{Inbox: inbox}
			var payload, headers []byte
			err := row.Scan(&m.ID, &m.EventID, &m.Source, &m.Stream, &m.Key, &m.Op, &m.Type, &payload, &headers, &m.ReceivedAt, &m.Attempts)
			m.Payload, m.Headers = payload, headers
			return m, err
		})
		if err != nil {
			return nil, err
		}
		for _, m := range arrived {
			if match(m) {
				return m, nil
			}
		}
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return nil, err
		}
	}
}
