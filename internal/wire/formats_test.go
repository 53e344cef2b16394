package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// keyed is the spelling of a transport that carries keys itself.
func keyed() Spelling {
	s := spelling("ce_", "content-type")
	s.OwnKey = true
	return s
}

func codecs(t interface{ Fatal(args ...any) }, s Spelling) map[string]Codec {
	all := map[string]Codec{}
	for _, format := range Formats() {
		codec, err := New(format, s)
		if err != nil {
			t.Fatal(err)
		}
		all[format] = codec
	}
	return all
}

// carried is what of a message a format carries, read from a transport that
// says when and where it came.
func carried(format string, m message.Message, e *message.Envelope) message.Message {
	m.OutboxID = 0
	if format == FormatNative || format == FormatCloudEvents {
		return m
	}
	m.Source, m.Outbox, m.Time = "nats:S", "", e.Time
	if format == formatRaw {
		m.Headers, m.Stream, m.Op = nil, m.Destination, defaultOp
		m.EventType = message.EventTypeOf(&m)
	}
	return m
}

// TestEveryReaderReadsEveryFormat: what a reader is told its format is changes
// nothing about what it reads of ours.
func TestEveryReaderReadsEveryFormat(t *testing.T) {
	t.Parallel()
	for where, s := range map[string]Spelling{"no keys": NATS(), "keys": keyed()} {
		for format, writer := range codecs(t, s) {
			t.Run(format+", "+where, func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(t *rapid.T) {
					m := anyMessage(t)
					e, err := writer.Encode(&m)
					if err != nil {
						t.Fatal(err)
					}
					for _, h := range e.Headers {
						if !isToken(h.Name) || strings.ContainsAny(h.Value, "\r\n\x00") {
							t.Fatalf("header %q: %q cannot travel", h.Name, h.Value)
						}
					}
					e.Coordinates, e.Time = "nats:S:7", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
					if e.Key = ""; s.OwnKey {
						e.Key = m.Key
					}
					want := carried(format, m, &e)
					if format == formatRaw && !s.OwnKey {
						want.Key = ""
					}
					for name, reader := range codecs(t, s) {
						got, err := reader.Decode(&e)
						if err != nil {
							t.Fatalf("read as %s: %v", name, err)
						}
						compare(t, &want, &got)
						if _, several := reader.Split(&e); several {
							t.Fatalf("%s takes it for a batch", name)
						}
					}
				})
			})
		}
	}
}

func sample() message.Message {
	return message.Message{
		EventID: "0191f6a0-0000-7000-8000-00000000000a", Source: "/" + databaseID + "/shop", Outbox: "shop", Stream: "orders", Key: "ORD-001",
		Op: "update", EventType: "order.paid", Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Payload: []byte(`{"total": 12.50, "order_id": "ORD-001", "customer": "Ä. \"B\""}`), Destination: "events.orders",
		Headers: []byte(`{"traceparent": "00-ab-cd-01", "tenant": "café", "n": 1}`),
	}
}

// TestFormatsLookAsTheyDid compares with files that people read too; with
// UPDATE_GOLDEN=1 they are written.
func TestFormatsLookAsTheyDid(t *testing.T) {
	t.Parallel()
	for format, codec := range codecs(t, NATS()) {
		m := sample()
		e, err := codec.Encode(&m)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		for _, h := range e.Headers {
			fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
		}
		fmt.Fprintf(&b, "\n%s\n", e.Body)
		path := filepath.Join("testdata", "formats", format+".txt")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", format, b.String(), want)
		}
	}
}

func TestAnUnknownFormatIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := New("avro", NATS()); err == nil || !strings.Contains(err.Error(), `"avro"`) || !strings.Contains(err.Error(), "debezium") {
		t.Errorf("got %v", err)
	}
}

func TestARawMessageIsThePayloadAndNothingElse(t *testing.T) {
	t.Parallel()
	m := sample()
	e, err := Raw{NATS()}.Encode(&m)
	if err != nil || len(e.Headers) != 0 || string(e.Body) != string(m.Payload) || e.EventID != m.EventID || e.Key != m.Key {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestAPlainMessageHasTheKeyOfItsTransport(t *testing.T) {
	t.Parallel()
	m, err := Binary{keyed()}.Decode(&message.Envelope{Key: "k", Coordinates: "kafka:orders:3:17", Destination: "orders", Body: []byte(`{}`)})
	if err != nil || m.Key != "k" || m.EventID != "kafka:orders:3:17" || m.Source != "kafka:orders:3" {
		t.Errorf("got %+v, %v", m, err)
	}
}

func batch(body string) *message.Envelope {
	return &message.Envelope{Destination: "d", EventID: "the batch's", Coordinates: "nats:S:7", Body: []byte(body),
		Headers: []message.Header{{Name: "Content-Type", Value: batchType + "; charset=utf-8"}}}
}

// TestABatchIsTakenApart: each event has an id of its own, and one that cannot
// be read harms no other.
func TestABatchIsTakenApart(t *testing.T) {
	t.Parallel()
	for format, codec := range codecs(t, NATS()) {
		parts, several := codec.Split(batch(` [{"specversion":"1.0","id":"1","source":"/shop","type":"t","data":{"a":1}}, 17,
			{"specversion":"1.0","type":"u","data":{"b":2}}]`))
		if !several || len(parts) != 3 {
			t.Fatalf("%s: got %d parts, %t", format, len(parts), several)
		}
		first, err := codec.Decode(&parts[0])
		if err != nil || first.EventID != "/shop#1" || string(first.Payload) != `{"a":1}` {
			t.Errorf("%s: got %+v, %v", format, first, err)
		}
		_, err = codec.Decode(&parts[1])
		if verdict, _ := delivery.VerdictOf(err); err == nil || verdict != delivery.VerdictReject {
			t.Errorf("%s: got %v, want a rejection", format, err)
		}
		third, err := codec.Decode(&parts[2])
		if err != nil || third.EventID != "nats:S:7#2" || third.EventType != "u" {
			t.Errorf("%s: got %+v, %v", format, third, err)
		}
	}
}

func TestJSONInBase64IsAPayload(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"id":"1","source":"/s","type":"t","data_base64":"eyJhIjoxfQ=="}`:                                             `{"a":1}`,
		`{"id":"1","source":"/s","type":"t","datacontenttype":"application/json; charset=utf-8","data_base64":"MQ=="}`: `1`,
		`{"id":"1","source":"/s","type":"t","datacontenttype":"image/png","data_base64":"MQ=="}`:                       ``,
		`{"id":"1","source":"/s","type":"t","data_base64":"e30"}`:                                                      ``,
		`{"id":"1","source":"/s","type":"t","data_base64":"eyI="}`:                                                     ``,
		`{"id":"1","source":"/s","type":"t","data_base64":17}`:                                                         ``,
	} {
		m, err := Structured{NATS()}.Decode(&message.Envelope{Coordinates: "c", Body: []byte(body), Headers: []message.Header{{Name: "content-type", Value: structuredType}}})
		if string(m.Payload) != want || (err != nil) != (want == "") || m.Headers != nil {
			t.Errorf("%s: got %s, headers %s, %v", body, m.Payload, m.Headers, err)
		}
	}
}

func TestAnEmptyBatchHoldsNothing(t *testing.T) {
	t.Parallel()
	if parts, several := (Binary{NATS()}).Split(batch(`[]`)); !several || len(parts) != 0 {
		t.Errorf("got %v, %t", parts, several)
	}
}

func TestABatchThatIsNoListIsRefusedWhole(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`[{`, `{}`, ``} {
		e := batch(body)
		if _, several := (Binary{NATS()}).Split(e); several {
			t.Errorf("%q was split", body)
		}
		_, err := Binary{NATS()}.Decode(e)
		if verdict, _ := delivery.VerdictOf(err); err == nil || verdict != delivery.VerdictReject || !strings.Contains(err.Error(), "not a JSON list") {
			t.Errorf("%q: got %v", body, err)
		}
	}
}

func TestAListThatIsNoBatchIsAPayload(t *testing.T) {
	t.Parallel()
	e := message.Envelope{Coordinates: "c", Destination: "d", Body: []byte(`[1, 2]`)}
	if _, several := (Binary{NATS()}).Split(&e); several {
		t.Error("it was split")
	}
}

// FuzzEveryFormatGivesWholeMessages: whatever comes is refused, or has all that
// an inbox asks for; a batch neither gains nor loses events.
func FuzzEveryFormatGivesWholeMessages(f *testing.F) {
	f.Add("id", `"0191f6a0-0000-7000-8000-00000000000a"`, []byte(`{"schema":{"type":"string"},"payload":"{}"}`))
	f.Add("id", "0191f6a0-0000-7000-8000-00000000000a", []byte(`"{\"a\": 1}"`))
	f.Add("tide-headers", `{":eventType":"t","::x":1}`, []byte(`1`))
	f.Add("content-type", batchType, []byte(`[{"id":"1","data":{}},2]`))
	f.Add("content-type", structuredType, []byte(`{"id":"1","data":1}`))
	f.Fuzz(func(t *testing.T, name, value string, body []byte) {
		e := message.Envelope{Headers: []message.Header{{Name: name, Value: value}, {Name: "id", Value: "17"}}, Body: body, Coordinates: "c:1", Destination: "d"}
		for _, codec := range codecs(t, NATS()) {
			parts, several := codec.Split(&e)
			if several {
				var list []any
				if json.Unmarshal(body, &list) != nil || len(list) != len(parts) {
					t.Errorf("%q became %d parts", body, len(parts))
				}
			} else {
				parts = []message.Envelope{e}
			}
			for i := range parts {
				whole(t, codec, &parts[i])
			}
		}
	})
}

func whole(t *testing.T, codec Codec, e *message.Envelope) {
	t.Helper()
	m, err := codec.Decode(e)
	if err != nil {
		if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject {
			t.Errorf("%v has the verdict %d", err, verdict)
		}
		return
	}
	var headers map[string]any
	if m.EventID == "" || len(m.EventID) > maxEventID || m.Stream == "" || m.Op == "" || m.EventType == "" || len(m.Payload) == 0 ||
		m.Headers != nil && json.Unmarshal(m.Headers, &headers) != nil {
		t.Errorf("%s gives %+v with headers %s", reflect.TypeOf(codec), m, m.Headers)
	}
}
