package sourcetest

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/wire"
)

func readsBinaryMode(t testing.TB, f Features, h Harness) { readsTheSDK(t, f, h, false) }

func readsStructuredMode(t testing.TB, f Features, h Harness) { readsTheSDK(t, f, h, true) }

// readsTheSDK has the SDK write what pg_tide would have, and a stranger's event.
func readsTheSDK(t testing.TB, f Features, h Harness, structured bool) {
	t.Helper()
	ctx := conformance.Limited(t)
	codec := wire.Binary{Spelling: conformance.Technology(t, f.Technology).Spelling()}
	source := opened(ctx, t, h)
	want := sinktest.Published(h.Destination)
	if !structured {
		want = want[:2] // the SDK writes attributes that are not ASCII as they are, which the binding forbids
	}
	stranger := message.Message{EventID: "7", Source: "https://example.com/shop", EventType: "com.example.sold",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Payload: []byte(`{"n": 1}`)}
	events := make([]event.Event, 0, len(want)+1)
	for _, m := range append(want, stranger) {
		events = append(events, eventOf(t, &m))
	}
	h.WriteEvents(t, events, structured)
	// A stranger's id is unique within its source only.
	stranger.EventID = "https://example.com/shop#7"
	want = append(want, stranger)
	got := map[string]*message.Message{}
	envelopes := read(ctx, t, source, len(want))
	for i := range envelopes {
		m, err := codec.Decode(&envelopes[i])
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		got[m.EventID] = &m
	}
	for i := range want {
		if m := got[want[i].EventID]; m != nil {
			sameMessage(t, m, &want[i])
		} else {
			t.Errorf("no event %s was read", want[i].EventID)
		}
	}
}

// eventOf is the event as the SDK has it.
func eventOf(t testing.TB, m *message.Message) event.Event {
	t.Helper()
	e := event.New()
	e.SetID(m.EventID)
	e.SetSource(m.Source)
	e.SetType(m.EventType)
	e.SetTime(m.Time)
	if m.Key != "" {
		e.SetSubject(m.Key)
	}
	if m.Stream != m.Outbox {
		e.SetExtension("tidestream", m.Stream)
	}
	if m.Op != "" && m.Op != "insert" {
		e.SetExtension("tideop", m.Op)
	}
	if err := e.SetData("application/json", json.RawMessage(m.Payload)); err != nil {
		t.Fatalf("set the data of an event: %v", err)
	}
	return e
}

func sameMessage(t testing.TB, got, want *message.Message) {
	t.Helper()
	op := want.Op
	if op == "" {
		op = "insert"
	}
	for _, field := range []struct{ name, got, want string }{
		{"source", got.Source, want.Source},
		{"event type", got.EventType, want.EventType},
		{"key", got.Key, want.Key},
		{"op", got.Op, op},
		{"time", got.Time.UTC().Format(time.RFC3339Nano), want.Time.Format(time.RFC3339Nano)},
	} {
		if field.got != field.want {
			t.Errorf("event %s: the SDK's %s was read as %q, want %q", want.EventID, field.name, field.got, field.want)
		}
	}
	if want.Stream != "" && got.Stream != want.Stream {
		t.Errorf("event %s: the stream was read as %q, want %q", want.EventID, got.Stream, want.Stream)
	}
	var a, b any
	if json.Unmarshal(got.Payload, &a) != nil || json.Unmarshal(want.Payload, &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("event %s: the payload was read as %s, want %s", want.EventID, got.Payload, want.Payload)
	}
}
