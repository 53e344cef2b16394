package tidetest

import (
	_ "embed" // the statement is a file of its own
	"encoding/json"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/tide"
)

//go:embed queries/published.sql
var publishedSQL string

// Published returns the events of an outbox, as committed, in the order in
// which they were published. Their payloads are json.RawMessage.
func (db *DB) Published(outbox string) []tide.Event {
	db.t.Helper()
	rows, err := db.Pool.Query(db.t.Context(), publishedSQL, outbox)
	if err != nil {
		db.t.Fatalf("read outbox %q: %v", outbox, err)
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (tide.Event, error) {
		var e tide.Event
		var payload []byte
		err := row.Scan(&e.ID, &e.Stream, &e.Key, &e.Op, &payload, &e.Headers)
		e.Payload = json.RawMessage(payload)
		e.Type, _ = e.Headers["event_type"].(string)
		return e, err
	})
	if err != nil {
		db.t.Fatalf("read outbox %q: %v", outbox, err)
	}
	return events
}

// AssertPublished fails the test unless each of the wanted events is among
// those of an outbox, in this order. What a wanted event leaves empty is not
// looked at; its headers may be fewer.
func (db *DB) AssertPublished(outbox string, want ...tide.Event) {
	db.t.Helper()
	got := db.Published(outbox)
	next := 0
	for i, w := range want {
		at := next
		for at < len(got) && !fits(w, got[at]) {
			at++
		}
		if at == len(got) {
			db.t.Errorf("outbox %q: event %d of %d is not there in this order: %s\npublished are:\n%s", outbox, i+1, len(want), text(w), all(got))
			return
		}
		next = at + 1
	}
}

func fits(want, got tide.Event) bool {
	for _, pair := range [][2]string{{want.Type, got.Type}, {want.Key, got.Key}, {want.Stream, got.Stream}, {want.Op, got.Op}, {want.ID, got.ID}} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	for name, value := range want.Headers {
		if !reflect.DeepEqual(plain(value), plain(got.Headers[name])) {
			return false
		}
	}
	return want.Payload == nil || reflect.DeepEqual(plain(want.Payload), plain(got.Payload))
}

// plain is a value as JSON would give it back.
func plain(value any) any {
	written, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var read any
	if err := json.Unmarshal(written, &read); err != nil {
		return err
	}
	return read
}

func text(e tide.Event) string {
	written, err := json.Marshal(e)
	if err != nil {
		return err.Error()
	}
	return string(written)
}

func all(events []tide.Event) string {
	lines := make([]string, 0, len(events))
	for _, e := range events {
		lines = append(lines, "  "+text(e))
	}
	return strings.Join(lines, "\n")
}
