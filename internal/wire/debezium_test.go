package wire

import (
	"reflect"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

const debeziumEvent = "0191f6a0-0000-7000-8000-00000000000a"

func TestTheLayoutOfDebeziumsOutboxRouter(t *testing.T) {
	t.Parallel()
	m := message.Message{EventID: debeziumEvent, Outbox: "orders", Stream: "orders", Key: "17", Op: "insert", EventType: "order.created", Payload: []byte(`{"a": 1}`)}
	for _, c := range []struct {
		spelling Spelling
		want     []message.Header
	}{
		{keyed(), []message.Header{{Name: "id", Value: debeziumEvent}, {Name: "eventType", Value: "order.created"}, {Name: "aggregateType", Value: "orders"}}},
		{NATS(), []message.Header{{Name: "id", Value: debeziumEvent}, {Name: "eventType", Value: "order.created"}, {Name: "aggregateType", Value: "orders"},
			{Name: "aggregateId", Value: "17"}}},
	} {
		e, err := Debezium{c.spelling}.Encode(&m)
		if err != nil || !reflect.DeepEqual(e.Headers, c.want) || string(e.Body) != `{"a": 1}` || e.Key != "17" || e.EventID != debeziumEvent {
			t.Errorf("got %+v, %v, want the headers %v", e, err, c.want)
		}
	}
}

// TestWhateverConverterDebeziumUsed: the payload arrives as JSON, not as a text of it.
func TestWhateverConverterDebeziumUsed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ id, body, want string }{
		"as it is":               {debeziumEvent, `{"a": 1}`, `{"a": 1}`},
		"JSON header":            {`"` + debeziumEvent + `"`, `{"a": 1}`, `{"a": 1}`},
		"text":                   {debeziumEvent, `"{\"a\": 1}"`, `{"a": 1}`},
		"with a schema":          {debeziumEvent, `{"schema":{"type":"string","optional":true},"payload":"{\"a\": 1}"}`, `{"a": 1}`},
		"expanded, with schema":  {debeziumEvent, `{"schema":{"type":"struct"},"payload":{"a":1}}`, `{"a":1}`},
		"a list":                 {debeziumEvent, `"[1, 2]"`, `[1, 2]`},
		"a text that is one":     {debeziumEvent, `"hello"`, `"hello"`},
		"a payload named so":     {debeziumEvent, `{"payload":"{}"}`, `{"payload":"{}"}`},
		"more than schema":       {debeziumEvent, `{"schema":{"type":"x"},"payload":{},"a":1}`, `{"schema":{"type":"x"},"payload":{},"a":1}`},
		"schema of other things": {debeziumEvent, `{"schema":"public","payload":{}}`, `{"schema":"public","payload":{}}`},
	} {
		e := message.Envelope{Destination: "outbox.event.orders", Coordinates: "nats:S:1", Body: []byte(c.body),
			Headers: []message.Header{{Name: "id", Value: c.id}, {Name: "eventType", Value: `"order.created"`}}}
		m, err := Binary{NATS()}.Decode(&e)
		if err != nil || m.EventID != debeziumEvent || m.EventType != "order.created" || string(m.Payload) != c.want || m.Stream != "outbox.event.orders" || m.Headers != nil {
			t.Errorf("%s: got %+v with payload %s, %v", name, m, m.Payload, err)
		}
	}
}

// TestAMessageAsDebeziumServerSentIt is one that "make compare-debezium" saw,
// with a publisher's header beside.
func TestAMessageAsDebeziumServerSentIt(t *testing.T) {
	t.Parallel()
	e := message.Envelope{Destination: "peers.events", Coordinates: "nats:peers_2:1", Body: []byte(`{"a": 1, "nested": {"list": [1, 2.50, null, true]}}`), Headers: []message.Header{
		{Name: "id", Value: `"0191f6a0-0000-7000-8000-000000000001"`}, {Name: "eventType", Value: `"orders.insert"`},
		{Name: "aggregateType", Value: `"orders"`}, {Name: "aggregateId", Value: `"ORD-001"`}, {Name: "traceparent", Value: `"00-ab-cd-01"`},
		{Name: "__debezium.context.connectorLogicalName", Value: `"peers"`}, {Name: "__debezium.context.connectorName", Value: `"postgresql"`},
		{Name: "__debezium.context.runId", Value: `"01a22ae3-7ab2-7f1d-99eb-d848d84540f9"`}, {Name: "__debezium.context.taskId", Value: `"0"`}}}
	want := message.Message{EventID: "0191f6a0-0000-7000-8000-000000000001", Source: "nats:peers_2", Stream: "orders", Key: "ORD-001", Op: "insert",
		EventType: "orders.insert", Payload: e.Body, Headers: []byte(`{"traceparent":"00-ab-cd-01"}`), Destination: "peers.events"}
	for name, codec := range codecs(t, NATS()) {
		if got, err := codec.Decode(&e); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v with headers %s, %v", name, got, got.Headers, err)
		}
	}
}

// TestAnIDThatIsNoUUIDIsDebeziumsWhereTheConfigurationSaysSo: any message may
// have a header of that name.
func TestAnIDThatIsNoUUIDIsDebeziumsWhereTheConfigurationSaysSo(t *testing.T) {
	t.Parallel()
	e := message.Envelope{Destination: "d", Coordinates: "nats:S:1", Body: []byte(`"[]"`), Headers: []message.Header{{Name: "id", Value: "17"}}}
	m, err := Debezium{NATS()}.Decode(&e)
	if err != nil || m.EventID != "nats:S#17" || string(m.Payload) != "[]" {
		t.Errorf("got %+v, %v", m, err)
	}
	m, err = Binary{NATS()}.Decode(&e)
	if err != nil || m.EventID != "nats:S:1" || string(m.Payload) != `"[]"` || string(m.Headers) != `{"id":"17"}` {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestBrokenHiddenAttributesAreRefused(t *testing.T) {
	t.Parallel()
	e := message.Envelope{Destination: "d", Coordinates: "c", Body: []byte(`1`), Headers: []message.Header{{Name: "id", Value: debeziumEvent}, {Name: "tide-headers", Value: `{":eventType": 1}`}}}
	_, err := Debezium{NATS()}.Decode(&e)
	if verdict, _ := delivery.VerdictOf(err); err == nil || verdict != delivery.VerdictReject {
		t.Errorf("got %v, want a rejection", err)
	}
}
