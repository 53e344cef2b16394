package clients

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/wire"
)

func event() message.Message {
	return message.Message{
		EventID: "0191f6a0-0000-7000-8000-00000000000a", Source: "/0191f6a0-7d3c-7000-8000-000000000001/shop", Outbox: "shop", Stream: "orders",
		Key: "ORD-001", Op: "update", EventType: "order.paid", Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Payload: []byte(`{"total":12.50,"note":"Ä"}`), Headers: []byte(`{"tenant":"acme"}`),
	}
}

// What the relay sends in either CloudEvents format, the SDK reads as that event.
func TestTheSDKOfCloudEventsReadsOurFormats(t *testing.T) {
	for _, format := range []string{"native", "cloudevents"} {
		codec, err := wire.New(format, wire.NATS())
		if err != nil {
			t.Fatal(err)
		}
		m := event()
		envelope, err := codec.Encode(&m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := cloudevents.NewEventFromHTTPRequest(request(t, &envelope))
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if got.ID() != m.EventID || got.Source() != m.Source || got.Type() != m.EventType || got.Subject() != m.Key || !got.Time().Equal(m.Time) ||
			got.Extensions()["tidestream"] != "orders" || got.Extensions()["tideop"] != "update" || string(got.Data()) != string(m.Payload) {
			t.Errorf("%s: the SDK reads %s", format, got)
		}
	}
}

// request carries an envelope as HTTP would, whose spelling NATS shares.
func request(t *testing.T, e *message.Envelope) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", strings.NewReader(string(e.Body)))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range e.Headers {
		r.Header.Set(h.Name, h.Value)
	}
	if r.Header.Get("Content-Type") == "" { // HTTP has none that goes without saying
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func theirs(t *testing.T, id string) cloudevents.Event {
	t.Helper()
	e := cloudevents.NewEvent()
	e.SetID(id)
	e.SetSource("/shop")
	e.SetType("order.created")
	e.SetSubject("k " + id)
	e.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	e.SetExtension("region", "eu")
	if err := e.SetData(cloudevents.ApplicationJSON, map[string]any{"id": id}); err != nil {
		t.Fatal(err)
	}
	return e
}

// What the SDK sends, alone or in a batch, every format of ours reads.
func TestOurFormatsReadWhatTheSDKOfCloudEventsSends(t *testing.T) {
	one, two := theirs(t, "1"), theirs(t, "2")
	structured, err := cehttp.NewHTTPRequestFromEvent(cloudevents.WithEncodingStructured(t.Context()), "http://127.0.0.1/", one)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := cehttp.NewHTTPRequestFromEvent(cloudevents.WithEncodingBinary(t.Context()), "http://127.0.0.1/", one)
	if err != nil {
		t.Fatal(err)
	}
	several, err := cehttp.NewHTTPRequestFromEvents(t.Context(), "http://127.0.0.1/", []cloudevents.Event{one, two})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		how  string
		sent message.Envelope
		ids  []string
	}{
		{"structured", envelope(t, structured), []string{"1"}},
		{"binary", envelope(t, binary), []string{"1"}},
		{"batch", envelope(t, several), []string{"1", "2"}},
	} {
		for _, format := range wire.Formats() {
			codec, err := wire.New(format, wire.NATS())
			if err != nil {
				t.Fatal(err)
			}
			parts, isBatch := codec.Split(&c.sent)
			if isBatch != (len(c.ids) > 1) {
				t.Fatalf("%s as %s: a batch: %t", c.how, format, isBatch)
			}
			if !isBatch {
				parts = []message.Envelope{c.sent}
			}
			if len(parts) != len(c.ids) {
				t.Fatalf("%s as %s: %d parts", c.how, format, len(parts))
			}
			for i, id := range c.ids {
				m, err := codec.Decode(&parts[i])
				if err != nil || m.EventID != "/shop#"+id || m.EventType != "order.created" || m.Key != "k "+id || string(m.Payload) != `{"id":"`+id+`"}` ||
					!m.Time.Equal(one.Time()) || !strings.Contains(string(m.Headers), `"ce-region":"eu"`) {
					t.Errorf("%s as %s: got %+v with headers %s and payload %s, %v", c.how, format, m, m.Headers, m.Payload, err)
				}
			}
		}
	}
}

// envelope is a request as a source would bring it.
func envelope(t *testing.T, r *http.Request) message.Envelope {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	e := message.Envelope{Destination: "in", Coordinates: "http:1", Body: body}
	for name, values := range r.Header {
		e.Headers = append(e.Headers, message.Header{Name: name, Value: values[0]})
	}
	return e
}
