package sinktest

import (
	"encoding/json"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/wire"
)

// encoder is a wire format, on the way out.
type encoder interface {
	Encode(m *message.Message) (message.Envelope, error)
}

func readInBinaryMode(t testing.TB, f Features, h Harness) {
	technology := conformance.Technology(t, f.Technology)
	readByTheSDK(t, h, wire.Binary{Spelling: technology.Spelling()})
}

func readInStructuredMode(t testing.TB, f Features, h Harness) {
	technology := conformance.Technology(t, f.Technology)
	readByTheSDK(t, h, wire.Structured{Spelling: technology.Spelling()})
}

// Published are messages with every attribute that pg_tide writes, for tests
// of bindings: plain ones, and ones that are not ASCII.
func Published(destination string) []message.Message {
	const source = "/6ba7b810-9dad-11d1-80b4-00c04fd430c8/orders"
	at := time.Date(2026, 11, 30, 12, 34, 56, 123456000, time.UTC)
	return []message.Message{
		{EventID: "00000000-0000-4000-8000-000000000001", Source: source, Outbox: "orders", Stream: "orders", Op: "insert",
			EventType: "order.created", Time: at, Payload: []byte(`{"total": 12.50, "name": "Zoë"}`), Destination: destination},
		{EventID: "00000000-0000-4000-8000-000000000002", Source: source, Outbox: "orders", Stream: "payments", Op: "update",
			Key: "customer-7", EventType: "payment.updated", Time: at.Add(time.Second), Payload: []byte(`[1, 2, 3]`),
			Headers: []byte(`{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`), Destination: destination},
		{EventID: "00000000-0000-4000-8000-000000000003", Source: source, Outbox: "orders", Stream: "orders", Op: "delete",
			Key: `Größe "7" 100%`, EventType: "größe", Time: at.Add(2 * time.Second), Payload: []byte(`"漢字 🌊"`), Destination: destination},
	}
}

func readByTheSDK(t testing.TB, h Harness, format encoder) {
	t.Helper()
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	sent := Published(h.Destination)
	batch := make([]message.Envelope, len(sent))
	for i := range sent {
		var err error
		if batch[i], err = format.Encode(&sent[i]); err != nil {
			t.Fatalf("encode: %v", err)
		}
	}
	mustSend(ctx, t, sink, batch)
	events := map[string]*event.Event{}
	read := h.ReadEvents(t)
	for i := range read {
		events[read[i].ID()] = &read[i]
	}
	if len(read) != len(sent) {
		t.Fatalf("the SDK read %d events, want %d", len(read), len(sent))
	}
	for i := range sent {
		if e := events[sent[i].EventID]; e != nil {
			sameEvent(t, e, &sent[i])
		} else {
			t.Errorf("the SDK read no event %s", sent[i].EventID)
		}
	}
}

func sameEvent(t testing.TB, e *event.Event, m *message.Message) {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Errorf("event %s is not valid: %v", m.EventID, err)
	}
	extension := func(name string) string {
		text, _ := e.Extensions()[name].(string)
		return text
	}
	stream, op := m.Stream, m.Op
	if stream == m.Outbox {
		stream = ""
	}
	if op == "insert" {
		op = ""
	}
	for _, attribute := range []struct{ name, got, want string }{
		{"specversion", e.SpecVersion(), "1.0"},
		{"source", e.Source(), m.Source},
		{"type", e.Type(), m.EventType},
		{"subject", e.Subject(), m.Key},
		{"time", e.Time().UTC().Format(time.RFC3339Nano), m.Time.Format(time.RFC3339Nano)},
		{"tidestream", extension("tidestream"), stream},
		{"tideop", extension("tideop"), op},
	} {
		if attribute.got != attribute.want && decoded(attribute.got) != attribute.want {
			t.Errorf("event %s: the SDK read %s as %q, want %q", m.EventID, attribute.name, attribute.got, attribute.want)
		}
	}
	if contentType := e.DataContentType(); contentType != "" && contentType != "application/json" {
		t.Errorf("event %s has the content type %q", m.EventID, contentType)
	}
	var got, want any
	if err := json.Unmarshal(e.Data(), &got); err != nil {
		t.Errorf("event %s: the SDK read data that is not JSON: %v", m.EventID, err)
	}
	if err := json.Unmarshal(m.Payload, &want); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("event %s: the SDK read the data %s, want %s", m.EventID, e.Data(), m.Payload)
	}
}

// decoded undoes the percent-encoding of the bindings for HTTP and NATS, which
// the SDK leaves to its users.
func decoded(value string) string {
	text, err := url.PathUnescape(value)
	if err != nil {
		return value
	}
	return text
}
