package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

type codec interface {
	Encode(m *message.Message) (message.Envelope, error)
	Decode(e *message.Envelope) (message.Message, error)
}

const databaseID = "0191f6a0-7d3c-7000-8000-000000000001"

func TestBinaryHasNoHeaderForDecoration(t *testing.T) {
	t.Parallel()
	m := message.Message{
		EventID: "0191f6a0-0000-7000-8000-00000000000a", Source: "/" + databaseID + "/orders", Outbox: "orders", Stream: "orders",
		Op: "insert", EventType: "order.created", Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Payload: []byte(`{"a": 1}`), Destination: "events.orders.insert",
	}
	e, err := Binary{NATS()}.Encode(&m)
	if err != nil {
		t.Fatal(err)
	}
	want := []message.Header{
		{Name: "ce-specversion", Value: "1.0"},
		{Name: "ce-id", Value: m.EventID},
		{Name: "ce-source", Value: "/" + databaseID + "/orders"},
		{Name: "ce-type", Value: "order.created"},
		{Name: "ce-time", Value: "2026-01-02T03:04:05.000006Z"},
	}
	if !reflect.DeepEqual(e.Headers, want) {
		t.Errorf("headers are %v, want %v", e.Headers, want)
	}
	if string(e.Body) != `{"a": 1}` {
		t.Errorf("the body is %s; the payload must not be touched", e.Body)
	}
}

func TestBinarySaysKeyStreamAndOpWhereTheySaySomething(t *testing.T) {
	t.Parallel()
	m := message.Message{EventID: "x", Source: "/" + databaseID + "/o", Outbox: "o", Stream: "orders", Key: "a b", Op: "delete", Payload: []byte("1"),
		Headers: []byte(`{"traceparent": "00-ab-cd-01", "Nats-Msg-Id": "forged", "ce-id": "forged", "n": 1}`)}
	e, err := Binary{NATS()}.Encode(&m)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ce-subject": "a%20b", "ce-tidestream": "orders", "ce-tideop": "delete",
		"traceparent": "00-ab-cd-01", "Nats-Msg-Id": "", "ce-id": "x",
		"tide-headers": `{"Nats-Msg-Id":"forged","ce-id":"forged","n":1}`} {
		if got := e.Header(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
}

// TestDecodeUndoesEncode drives both formats with names and values that
// favour what breaks headers.
func TestDecodeUndoesEncode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]codec{"native": Binary{NATS()}, "cloudevents": Structured{NATS()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				m := anyMessage(t)
				e, err := c.Encode(&m)
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range e.Headers {
					if !isToken(h.Name) || strings.ContainsAny(h.Value, "\r\n\x00") {
						t.Fatalf("header %q: %q cannot travel", h.Name, h.Value)
					}
				}
				got, err := c.Decode(&e)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, &m, &got)
			})
		})
	}
}

func compare(t *rapid.T, want, got *message.Message) {
	if !sameJSON(want.Headers, got.Headers) || !sameJSON(want.Payload, got.Payload) {
		t.Fatalf("got headers %s, payload %s, want %s, %s", got.Headers, got.Payload, want.Headers, want.Payload)
	}
	if !got.Time.Equal(want.Time) {
		t.Fatalf("got time %s, want %s", got.Time, want.Time)
	}
	g, w := *got, *want
	g.Headers, g.Payload, g.Time, w.Headers, w.Payload, w.Time, w.OutboxID = nil, nil, time.Time{}, nil, nil, time.Time{}, 0
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("got %+v, want %+v", g, w)
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if len(a) == 0 {
		a = []byte("{}")
	}
	if len(b) == 0 {
		b = []byte("{}")
	}
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func anyMessage(t *rapid.T) message.Message {
	text := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune(" :%\"\\\r\n\t,;=é中😀.>*")), rapid.RuneFrom([]rune("abcXYZ019-_"))))
	name := rapid.OneOf(text, rapid.SampledFrom([]string{"", "traceparent", "ce-id", "Content-Type", "Nats-Msg-Id", "tide-headers", "a:b", "X-Y", "id", "eventType", ":eventType", "::op", "op"}))
	value := rapid.OneOf(text.AsAny(), rapid.Int().AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil), rapid.Just[any]([]any{"a", 1.5}))
	headers, err := json.Marshal(rapid.MapOfN(name, value, 0, 4).Draw(t, "headers"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(rapid.MapOfN(text, value, 0, 3).Draw(t, "payload"))
	if err != nil {
		t.Fatal(err)
	}
	outbox := rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_.-]{0,20}`).Draw(t, "outbox")
	return message.Message{
		EventID: "0191f6a0-0000-7000-8000-" + rapid.StringMatching(`[0-9a-f]{12}`).Draw(t, "id"),
		Source:  "/" + databaseID + "/" + outbox, Outbox: outbox, OutboxID: 7,
		Stream: rapid.OneOf(rapid.Just(outbox), text.Filter(func(s string) bool { return s != "" })).Draw(t, "stream"),
		Key:    text.Draw(t, "key"), Op: rapid.SampledFrom([]string{"insert", "update", "x.y"}).Draw(t, "op"),
		EventType: text.Filter(func(s string) bool { return s != "" }).Draw(t, "type"),
		Time:      time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999_999).Draw(t, "micros")*1000).UTC(),
		Payload:   payload, Headers: headers, Destination: "events.x",
	}
}

func TestPlainMessagesOfStrangers(t *testing.T) {
	t.Parallel()
	c := Binary{NATS()}
	e := message.Envelope{Destination: "billing.paid", Coordinates: "nats:BILLING:17", Body: []byte(`{"event_type": "invoice.paid"}`),
		Headers: []message.Header{{Name: "X-A", Value: "1"}, {Name: "X-A", Value: "2"}, {Name: "Nats-Msg-Id", Value: "m1"}}}
	m, err := c.Decode(&e)
	if err != nil {
		t.Fatal(err)
	}
	want := message.Message{EventID: "nats:BILLING:17", Source: "nats:BILLING", Stream: "billing.paid", Op: "insert", EventType: "invoice.paid",
		Payload: e.Body, Headers: []byte(`{"X-A":["1","2"]}`), Destination: "billing.paid"}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v, want %+v", m, want)
	}
	e.EventID = "m1"
	if m, err = c.Decode(&e); err != nil || m.EventID != "m1" {
		t.Errorf("got id %q, %v; the message id goes before the coordinates", m.EventID, err)
	}
}

func TestStrangersCloudEventIsKnownBySourceAndID(t *testing.T) {
	t.Parallel()
	e := message.Envelope{Destination: "s", Coordinates: "nats:S:1", Body: []byte(`1`), Headers: []message.Header{
		{Name: "CE-SpecVersion", Value: "1.0"}, {Name: "Ce-Id", Value: "17"}, {Name: "ce-source", Value: "/shop"}, {Name: "ce-type", Value: "t"}}}
	m, err := Binary{NATS()}.Decode(&e)
	if err != nil || m.EventID != "/shop#17" || m.EventType != "t" {
		t.Errorf("got %+v, %v", m, err)
	}
}

// TestAttributesWithoutAPlaceArriveAsHeaders: what a stranger's CloudEvent
// says beyond what a message has is not lost.
// The released binding for NATS has no headers.
func TestABodyAloneIsAStructuredEventWhereTheBindingSaysSo(t *testing.T) {
	t.Parallel()
	const event = `{"specversion": "1.0", "id": "7", "source": "/shop", "type": "sold", "subject": "k", "data": {"a": 1}}`
	m, err := Binary{NATS()}.Decode(&message.Envelope{Body: []byte(event)})
	if err != nil || m.EventID != "/shop#7" || m.EventType != "sold" || m.Key != "k" || string(m.Payload) != `{"a": 1}` {
		t.Errorf("got %+v, %v", m, err)
	}
	for name, e := range map[string]message.Envelope{
		"a content type":     {Body: []byte(event), Headers: []message.Header{{Name: "content-type", Value: "application/json"}}, Coordinates: "nats:S:1"},
		"binary mode":        {Body: []byte(event), Headers: []message.Header{{Name: "ce-specversion", Value: "1.0"}, {Name: "ce-id", Value: "8"}}},
		"no id":              {Body: []byte(`{"specversion": "1.0", "source": "/shop", "type": "sold", "data": 1}`), Coordinates: "nats:S:1"},
		"an older version":   {Body: []byte(strings.Replace(event, "1.0", "0.3", 1)), Coordinates: "nats:S:1"},
		"one within another": {Body: []byte(`{"event": ` + event + `}`), Coordinates: "nats:S:1"},
	} {
		if m, err := (Binary{NATS()}).Decode(&e); err != nil || string(m.Payload) != string(e.Body) {
			t.Errorf("%s: the payload is %s, %v", name, m.Payload, err)
		}
	}
}

func TestAttributesWithoutAPlaceArriveAsHeaders(t *testing.T) {
	t.Parallel()
	binary := message.Envelope{Destination: "s", Coordinates: "nats:S:1", Body: []byte(`1`), Headers: []message.Header{
		{Name: "ce-specversion", Value: "1.0"}, {Name: "ce-id", Value: "17"}, {Name: "ce-source", Value: "/shop"}, {Name: "ce-type", Value: "t"},
		{Name: "Ce-DataSchema", Value: "a%20b"}, {Name: "ce-part", Value: "1"}, {Name: "ce-part", Value: "2"}, {Name: "X-A", Value: "x"}}}
	structured := message.Envelope{Destination: "s", Coordinates: "nats:S:1", Headers: []message.Header{{Name: "Content-Type", Value: structuredType + "; charset=utf-8"}},
		Body: []byte(`{"specversion":"1.0","id":"17","source":"/shop","type":"t","time":"yesterday","dataschema":"a b","part":["1","2"],"tideheaders":"{\"X-A\":\"x\"}","data":1}`)}
	for name, e := range map[string]message.Envelope{"binary": binary, "structured": structured} {
		m, err := Binary{NATS()}.Decode(&e)
		want := `{"X-A":"x","ce-dataschema":"a b","ce-part":["1","2"]}`
		if err != nil || m.EventID != "/shop#17" || string(m.Payload) != "1" || !sameJSON(m.Headers, []byte(want)) {
			t.Errorf("%s: got %+v with headers %s, %v; want the headers %s", name, m, m.Headers, err, want)
		}
	}
}

func TestNullIsAPayload(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]codec{"native": Binary{NATS()}, "cloudevents": Structured{NATS()}} {
		m := message.Message{EventID: "e", Source: "/" + databaseID + "/o", Outbox: "o", Stream: "o", Op: "insert", EventType: "t", Payload: []byte("null")}
		e, err := c.Encode(&m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Decode(&e); err != nil || string(got.Payload) != "null" {
			t.Errorf("%s: got %s, %v", name, got.Payload, err)
		}
	}
}

func TestRefusesWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]message.Envelope{
		"content type":             {Body: []byte("x"), Headers: []message.Header{{Name: "Content-Type", Value: "text/plain"}}, Coordinates: "c"},
		"empty":                    {Coordinates: "c"},
		"structured, broken":       {Body: []byte("{"), Headers: []message.Header{{Name: "content-type", Value: structuredType}}, Coordinates: "c"},
		"structured, no data":      {Body: []byte(`{"id":"1"}`), Headers: []message.Header{{Name: "content-type", Value: structuredType}}, Coordinates: "c"},
		"structured, number as id": {Body: []byte(`{"id":1,"data":1}`), Headers: []message.Header{{Name: "content-type", Value: structuredType}}, Coordinates: "c"},
		"structured, odd headers":  {Body: []byte(`{"id":"1","tideheaders":"[]","data":1}`), Headers: []message.Header{{Name: "content-type", Value: structuredType}}, Coordinates: "c"},
		"a batch":                  {Body: []byte(`[]`), Headers: []message.Header{{Name: "content-type", Value: batchType}}, Coordinates: "c"},
		"id too long":              {Body: []byte("1"), EventID: strings.Repeat("x", 513)},
		"no id at all":             {Body: []byte("1")},
		"our header, broken":       {Body: []byte("1"), Coordinates: "c", Headers: []message.Header{{Name: "tide-headers", Value: "{"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Binary{NATS()}.Decode(&e)
			if verdict, _ := delivery.VerdictOf(err); err == nil || verdict != delivery.VerdictReject {
				t.Errorf("got %v, want a rejection", err)
			}
		})
	}
}

// FuzzDecodeGivesWholeMessages: what is decoded has all that an inbox asks for,
// and its headers are a JSON object.
func FuzzDecodeGivesWholeMessages(f *testing.F) {
	f.Add("ce-id", "1", []byte(`{}`))
	f.Add("content-type", structuredType, []byte(`{"id":"1","x":[1],"data":{}}`))
	f.Add("tide-headers", `{"a":1}`, []byte(`{"event_type":"t"}`))
	f.Fuzz(func(t *testing.T, name, value string, body []byte) {
		e := message.Envelope{Headers: []message.Header{{Name: name, Value: value}, {Name: "ce-specversion", Value: "1.0"}}, Body: body, Coordinates: "c", Destination: "d"}
		m, err := Binary{NATS()}.Decode(&e)
		if err != nil {
			if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject {
				t.Errorf("%v has the verdict %d", err, verdict)
			}
			return
		}
		var headers map[string]any
		if m.EventID == "" || len(m.EventID) > maxEventID || m.Stream == "" || m.Op == "" || m.EventType == "" || len(m.Payload) == 0 ||
			m.Headers != nil && json.Unmarshal(m.Headers, &headers) != nil {
			t.Errorf("got %+v with headers %s", m, m.Headers)
		}
	})
}

func TestKafkaHasTheNamesOfItsOwnCloudEventsBinding(t *testing.T) {
	t.Parallel()
	m := message.Message{
		EventID: "00000000-0000-4000-8000-000000000001", Source: "/00000000-0000-4000-8000-00000000000d/order_events", Outbox: "order_events",
		Stream: "orders", Key: "17", Op: "update", EventType: "order.paid", Time: time.Unix(1, 0).UTC(), Payload: []byte(`{"n":1}`), Headers: []byte(`{"traceparent":"00-1"}`),
	}
	e, err := Binary{Spelling: Kafka()}.Encode(&m)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"ce_specversion": "1.0", "ce_id": m.EventID, "ce_source": m.Source, "ce_type": "order.paid", "ce_subject": "17",
		"ce_tidestream": "orders", "ce_tideop": "update", "traceparent": "00-1",
	} {
		if got := e.Header(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	e.Coordinates = "kafka:orders:0/1"
	back, err := Binary{Spelling: Kafka()}.Decode(&e)
	if err != nil {
		t.Fatal(err)
	}
	if back.EventID != m.EventID || back.Key != "17" || back.Op != "update" || back.Stream != "orders" || string(back.Headers) != string(m.Headers) {
		t.Errorf("came back as %+v", back)
	}
}

// A stranger's record has its key where Kafka has keys, and nowhere else.
func TestAStrangersKeyIsThatOfItsTransport(t *testing.T) {
	t.Parallel()
	m, err := Binary{Spelling: Kafka()}.Decode(&message.Envelope{Destination: "orders", Key: "17", Body: []byte(`{}`), Coordinates: "kafka:orders:2/5#ab"})
	if err != nil {
		t.Fatal(err)
	}
	if m.Key != "17" || m.EventID != "kafka:orders:2/5#ab" || m.Source != "kafka:orders" || m.Stream != "orders" {
		t.Errorf("decoded as %+v", m)
	}
}
