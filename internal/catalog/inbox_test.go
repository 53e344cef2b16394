package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func incoming(ids ...string) []message.Message {
	var messages []message.Message
	for _, id := range ids {
		messages = append(messages, message.Message{EventID: id, Source: "/db/o", Stream: "s", Key: "k", Op: "insert",
			EventType: "s.insert", Payload: []byte(`{"a": 1}`), Headers: []byte(`{"h": "x"}`)})
	}
	return messages
}

func newInbox(t *testing.T, name string) (string, *Catalog, InboxTarget, func() []string) {
	t.Helper()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Reverse(t, pool, name, relayA)
	target := InboxTarget{Owner: Owner{PipelineID: spec.ID, Fence: spec.Fence}, InboxID: spec.EndpointID, Inbox: name}
	ids := func() []string {
		rows, err := pool.Query(t.Context(), "select event_id from tide.inbox_message order by id")
		if err != nil {
			t.Fatal(err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	return dsn, open(t, dsn, relayA), target, ids
}

func TestABatchIsInsertedInOrderAndOnceAndNotifiedOnce(t *testing.T) {
	t.Parallel()
	dsn, c, target, ids := newInbox(t, "Mixed-case.inbox")
	listener := pgtest.Conn(t, dsn)
	if _, err := listener.Exec(t.Context(), `listen "tide_inbox_Mixed-case.inbox"`); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{3, 1, 0} {
		batch := incoming([][]string{{"c", "a", "b", "a"}, {"a", "d"}, {"d"}}[i]...)
		if added, err := c.InsertInbox(t.Context(), target, batch); err != nil || added != want {
			t.Fatalf("batch %d: %d added, %v; want %d", i, added, err, want)
		}
	}
	if got := ids(); !slices.Equal(got, []string{"c", "a", "b", "d"}) {
		t.Errorf("inserted %v", got)
	}
	if _, err := listener.Exec(t.Context(), `notify "tide_inbox_Mixed-case.inbox", 'end'`); err != nil {
		t.Fatal(err)
	}
	count := 0
	for {
		n, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Payload == "end" {
			break
		}
		count++
	}
	if count != 2 {
		t.Errorf("%d notifications for the two batches with something new", count)
	}
}

func TestUninsertableMessagesAreNamedAndNothingIsInserted(t *testing.T) {
	t.Parallel()
	_, c, target, ids := newInbox(t, "i")
	batch := incoming("m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "")
	batch[1].Payload = []byte(`{"a": `)
	batch[3].Payload = []byte(`{"a": "\u0000"}`)
	batch[4].Key = "\xff"
	batch[6].EventID = strings.Repeat("long and not the same ", 400)
	batch[6].EventID = incompressible(8000)
	_, err := c.InsertInbox(t.Context(), target, batch)
	assertFailed(t, err, 8)
	_, err = c.InsertInbox(t.Context(), target, batch[:8])
	assertFailed(t, err, 1, 3, 4, 6)
	if got := ids(); len(got) != 0 {
		t.Errorf("inserted %v", got)
	}
	if added, err := c.InsertInbox(t.Context(), target, incoming("m0", "m2", "m5", "m7")); err != nil || added != 4 {
		t.Errorf("without them: %d, %v", added, err)
	}
}

func incompressible(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%x", i*2654435761)
	}
	return b.String()
}

func assertFailed(t *testing.T, err error, want ...int) {
	t.Helper()
	var partial *delivery.Partial
	if !errors.As(err, &partial) || !slices.Equal(partial.Indices(), want) {
		t.Fatalf("failed with %v, want messages %v", err, want)
	}
	for i, e := range partial.Failed {
		if v, _ := delivery.VerdictOf(e); v != delivery.VerdictReject {
			t.Errorf("message %d has verdict %v", i, v)
		}
	}
}

func TestDeadLettersAreKeptWholeAndOnce(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Reverse(t, pool, "i", relayA)
	c := open(t, dsn, relayA)
	letters := c.DeadLetters(Owner{PipelineID: spec.ID, Fence: spec.Fence})
	batch := []message.DeadLetter{
		{Message: message.Message{EventID: "e1", Key: "k1", Payload: []byte(`{"a": 1}`)}, Error: "refused", Attempts: 2, HoldsKey: true},
		{Body: []byte("\x00\xffnot json"), Coordinates: "nats:S:7", Error: "not JSON \x00", Attempts: 1,
			TransportHeaders: []message.Header{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}}},
		{Message: message.Message{EventID: "e3", Key: "k1", Payload: []byte(`{"a": "\u0000"}`)}, Error: "zero", Attempts: 1},
	}
	for range 2 {
		if err := letters.Add(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		batch[0].Error, batch[0].Attempts = "refused again", 3
	}
	if held, err := letters.Held(t.Context()); err != nil || !slices.Equal(held, []message.HeldKey{{Key: "k1"}}) {
		t.Errorf("held %v, %v", held, err)
	}
	if due, err := letters.Due(t.Context(), 10, false); err != nil || len(due) != 0 {
		t.Errorf("due %v, %v", due, err)
	}
	schematest.Exec(t, pool, "select tide.dead_letter_retry('i-in', array(select id from tide.dead_letters))")
	due, err := letters.Due(t.Context(), 10, false)
	if err != nil || len(due) != 3 {
		t.Fatalf("due %v, %v", due, err)
	}
	if d := due[0]; d.Message.EventID != "e1" || string(d.Message.Payload) != `{"a": 1}` || d.Error != "refused again" || d.Attempts != 3 {
		t.Errorf("first: %+v", d)
	}
	if d := due[1]; string(d.Body) != "\x00\xffnot json" || !slices.Equal(d.TransportHeaders, batch[1].TransportHeaders) || d.Coordinates != "nats:S:7" {
		t.Errorf("second: %+v", d)
	}
	if d := due[2]; d.Message.EventID != "e3" || string(d.Body) != `{"a": "\u0000"}` || d.Message.Payload != nil {
		t.Errorf("third: %+v", d)
	}
	if err := letters.Settle(t.Context(), due[0].ID, nil); err != nil {
		t.Fatal(err)
	}
	if err := letters.Settle(t.Context(), due[1].ID, errors.New("still not")); err != nil {
		t.Fatal(err)
	}
	left, err := letters.Due(t.Context(), 10, false)
	if err != nil || len(left) != 1 || left[0].ID != due[2].ID {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestParkedLettersFollowInOrderOnceNothingHoldsTheirKey(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Reverse(t, pool, "i", relayA)
	letters := open(t, dsn, relayA).DeadLetters(Owner{PipelineID: spec.ID, Fence: spec.Fence})
	add := func(ids string, key string, attempts int) {
		t.Helper()
		for _, id := range strings.Fields(ids) {
			letter := message.DeadLetter{Message: message.Message{EventID: id, Key: key}, Error: "because", Attempts: attempts, HoldsKey: key != ""}
			if err := letters.Add(t.Context(), []message.DeadLetter{letter}); err != nil {
				t.Fatal(err)
			}
		}
	}
	due := func(want string) []message.DeadLetter {
		t.Helper()
		found, err := letters.Due(t.Context(), 10, true)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for i := range found {
			ids = append(ids, found[i].Message.EventID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("due %q, want %q", got, want)
		}
		return found
	}
	ask := func(sql, id string) {
		t.Helper()
		schematest.Exec(t, pool, fmt.Sprintf("select tide.%s('i-in', array(select id from tide.dead_letters where event_id = '%s'))", sql, id))
	}
	add("a1", "a", 3)
	add("b1", "b", 1)
	add("a2 a3", "a", 0)
	add("b2", "b", 0)
	add("a1", "a", 0) // met again after a crash, parked by its own letter
	add("none", "", 1)
	due("")
	ask("dead_letter_retry", "a3")
	due("") // a1 comes first, and nobody asked for it
	ask("dead_letter_retry", "a1")
	first := due("a1 a2 a3")
	if first[0].Attempts != 3 || first[0].Error != "because" || first[1].Attempts != 0 {
		t.Errorf("got %+v", first)
	}
	if err := letters.Settle(t.Context(), first[0].ID, errors.New("still")); err != nil {
		t.Fatal(err)
	}
	due("") // it holds its key again
	ask("dead_letter_discard", "b1")
	due("b2")
	ask("dead_letter_discard", "a1")
	due("a2 a3 b2")
	if n, err := letters.Count(t.Context()); err != nil || n != 4 {
		t.Errorf("count %d, %v", n, err)
	}
}
