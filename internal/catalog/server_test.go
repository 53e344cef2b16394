package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// A pooler, or a name that points to a promoted standby, leads a session to
// another server without a word. The owner's row is there; what the session
// read may not be.
func TestAnOwnershipHoldsForOneRunOfOneServer(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o")
	inbox := schematest.Inbox(t, pool, "i")
	a := open(t, dsn, relayA)
	_, before := heartbeat(t, a)
	owner := Owner{PipelineID: before[0].ID, Fence: before[0].Fence}
	position := message.Position{Sequence: 1, Snapshot: "10:10:", LastID: 1, Bound: 10, Incarnation: 1}
	if err := a.SavePosition(t.Context(), owner, position); err != nil {
		t.Fatal(err)
	}
	if _, again := heartbeat(t, a); again[0].Fence != owner.Fence {
		t.Fatalf("a heartbeat took the pipeline anew: %+v", again)
	}

	schematest.Exec(t, pool, `update tide.pipeline_owner set server_started_at = server_started_at - interval '1 day'`)
	position.Sequence = 2
	letters := a.DeadLetters(owner)
	_, insert := a.InsertInbox(t.Context(), InboxTarget{Owner: owner, InboxID: inbox, Inbox: "i"}, []message.Message{{EventID: "e", Payload: []byte("1")}})
	_, read := a.ReadPage(t.Context(), PageRequest{Owner: owner, OutboxID: before[0].EndpointID, Parts: "{1}", Limit: 1, Bytes: 1})
	for what, err := range map[string]error{
		"save":   a.SavePosition(t.Context(), owner, position),
		"mark":   a.SaveMark(t.Context(), owner, 1, message.Mark{Origin: "x", Sequence: 1}),
		"add":    letters.Add(t.Context(), []message.DeadLetter{{Message: message.Message{EventID: "e"}, Error: "x"}}),
		"settle": letters.Settle(t.Context(), 1, nil),
		"insert": insert,
		"read":   read,
	} {
		if !isSuperseded(err) {
			t.Errorf("%s on another server: %v", what, err)
		}
	}
	_, after := heartbeat(t, a)
	if len(after) != 1 || after[0].Fence <= owner.Fence {
		t.Fatalf("the relay did not take the pipeline anew: %+v", after)
	}
	owner.Fence = after[0].Fence
	if err := a.SavePosition(t.Context(), owner, position); err != nil {
		t.Error(err)
	}
}

func TestMarksAreRememberedTheLastOneCounts(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Reverse(t, pool, "i", relayA)
	a := open(t, dsn, relayA)
	owner := OwnerOf(spec)
	mark, number, err := a.LoadMark(t.Context(), spec.ID)
	if err != nil || number != 0 || mark.Origin != "" || mark.Claim == 0 {
		t.Fatalf("before the first: %+v, %d, %v", mark, number, err)
	}
	last := message.Mark{Origin: "nats:EVENTS:1:d:events.>", Delivery: 1 << 63, Places: `{"a": {"0": 12}}`}
	for i := int64(1); i <= 230; i++ {
		last.Sequence = 1<<63 + uint64(i)
		if err := a.SaveMark(t.Context(), owner, i, last); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SaveMark(t.Context(), owner, 230, last); err == nil || isSuperseded(err) {
		t.Errorf("a second save under one number: %v", err)
	}
	last.Claim = mark.Claim
	if mark, number, err = a.LoadMark(t.Context(), spec.ID); err != nil || number != 230 || mark != last {
		t.Errorf("loaded %+v, %d, %v; want %+v", mark, number, err, last)
	}
	var left int
	schematest.Query(t, pool, `select count(*) from tide.pipeline_mark`, nil, &left)
	if left > 120 {
		t.Errorf("%d marks are kept", left)
	}
	schematest.Exec(t, pool, `update tide.node set timeline = timeline + 1`) // as at the time of the save
	if mark, _, err = a.LoadMark(t.Context(), spec.ID); err != nil || mark.Moved {
		t.Errorf("on the timeline of the save: %+v, %v", mark, err)
	}
	schematest.Exec(t, pool, `update tide.pipeline_mark set timeline = timeline - 1`)
	if mark, _, err = a.LoadMark(t.Context(), spec.ID); err != nil || !mark.Moved {
		t.Errorf("on another timeline: %+v, %v", mark, err)
	}
	schematest.Exec(t, pool, `select tide.relay_adopt('i-in')`)
	if mark, _, err = a.LoadMark(t.Context(), spec.ID); err != nil || mark.Origin != "" || mark.Claim <= last.Claim {
		t.Errorf("after adopting: %+v, %v", mark, err)
	}
}

// TestAMarkAndItsMessagesAreDurableTogetherOrNotAtAll: whatever refuses the
// one leaves the other as it was.
func TestAMarkAndItsMessagesAreDurableTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Reverse(t, pool, "i", relayA)
	a := open(t, dsn, relayA)
	target := InboxTarget{Owner: OwnerOf(spec), InboxID: spec.EndpointID, Inbox: "i", Repeats: &Repeats{}}
	at := func(sequence uint64) message.Mark {
		return message.Mark{Origin: "nats:EVENTS:1", Sequence: sequence, Places: fmt.Sprintf(`{"p": %d}`, sequence)}
	}
	holds := func(when string, messages int, number int64, sequence uint64) {
		t.Helper()
		mark, last, err := a.LoadMark(t.Context(), spec.ID)
		var stored int
		schematest.Query(t, pool, `select count(*) from tide.i_inbox`, nil, &stored)
		if err != nil || stored != messages || last != number || mark.Sequence != sequence || mark.Places != at(sequence).Places {
			t.Errorf("%s: %d messages, mark %d under %d, %v", when, stored, mark.Sequence, last, err)
		}
	}
	insert := func(number int64, mark message.Mark, ids ...string) error {
		_, err := a.InsertInboxMarked(t.Context(), target, incoming(ids...), number, mark)
		return err
	}

	if err := insert(1, at(2), "m1", "m2"); err != nil {
		t.Fatal(err)
	}
	holds("the first", 2, 1, 2)
	if err := insert(2, at(3), "m2", "m3"); err != nil { // whether or not the repeat was expected
		t.Fatal(err)
	}
	holds("with a repeat", 3, 2, 3)

	var partial *delivery.Partial
	bad := incoming("m4", "m5")
	bad[1].Payload = []byte(`"\u0000"`)
	if _, err := a.InsertInboxMarked(t.Context(), target, bad, 3, at(5)); !errors.As(err, &partial) || partial.Failed[1] == nil || len(partial.Failed) != 1 {
		t.Errorf("a message that the inbox refuses: %v", err)
	}
	holds("refused", 3, 2, 3)
	if err := insert(2, at(6), "m6"); err == nil || isSuperseded(err) || errors.As(err, &partial) || !strings.Contains(err.Error(), "pipeline_mark") {
		t.Errorf("a second save under one number: %v", err)
	}
	holds("under a number that is taken", 3, 2, 3)

	other := target
	other.Owner.Fence++
	if _, err := a.InsertInboxMarked(t.Context(), other, incoming("m7"), 3, at(7)); !isSuperseded(err) {
		t.Errorf("by one who does not own the pipeline: %v", err)
	}
	holds("not the owner", 3, 2, 3)
	for number := int64(3); number <= 230; number++ {
		if err := insert(number, at(uint64(number)+1), fmt.Sprintf("n%d", number)); err != nil {
			t.Fatal(err)
		}
	}
	holds("at the end", 231, 230, 231)
	var left int
	schematest.Query(t, pool, `select count(*) from tide.pipeline_mark`, nil, &left)
	if left > 120 {
		t.Errorf("%d marks are kept", left)
	}
}
