package builtin

import (
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

func trial(t *testing.T, b *Builder, text string) (*Trial, error) {
	t.Helper()
	return b.Trial(pipeline.Spec{Name: "p", Direction: pipeline.Forward, Endpoint: "shop", Config: []byte(text)})
}

func TestATrialTellsWhatBecomesOfEachEvent(t *testing.T) {
	t.Parallel()
	tried, err := trial(t, newBuilder(), `{"sink_type": "nats", "url": "nats://a", "wire_format": "raw", "subject": "shop.{stream}",
		"transform": {"filter": "payload.test != `+"`true`"+`", "payload": "merge(payload, {seen: 'yes'})"},
		"routing": {"rules": [{"when": "starts_with(payload.id, 'X')", "subject": "x.{payload.id}"}, {"when": "op == 'delete'", "drop": true}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]Outcome{
		`{"id": "X 1"}`:             {Result: ResultSent, Rule: 0, Routed: true, Envelope: message.Envelope{Destination: "x.X_1", Body: []byte(`{"id":"X 1","seen":"yes"}`)}},
		`{"id": "Y"}`:               {Result: ResultSent, Rule: -1, Routed: true, Envelope: message.Envelope{Destination: "shop.orders", Body: []byte(`{"id":"Y","seen":"yes"}`)}},
		`{"id": "Y", "op": 1}`:      {Result: ResultDropped, Rule: 1, Routed: true},
		`{"id": "Y", "test": true}`: {Result: ResultFiltered, Rule: -1},
		`{"id": 17}`:                {Result: ResultFails, Rule: 0, Routed: true},
		`{`:                         {Result: ResultFails, Rule: -1},
		`{"id": "X` + long() + `"}`: {Result: ResultFails, Rule: 0, Routed: true},
	} {
		m := message.Message{EventID: "e", Outbox: "shop", Stream: "orders", Op: "insert", Payload: []byte(payload)}
		if strings.Contains(payload, `"op"`) {
			m.Op = "delete"
		}
		got := tried.Try(m)
		if got.Result != want.Result || got.Rule != want.Rule || got.Routed != want.Routed || (got.Err != nil) != (want.Result == ResultFails) ||
			got.Envelope.Destination != want.Envelope.Destination || string(got.Envelope.Body) != string(want.Envelope.Body) {
			t.Errorf("%.40s: got %+v, %s", payload, got, got.Envelope.Body)
		}
	}
}

func long() string { return strings.Repeat("x", 2000) }

func TestATrialRefusesWhatTheRelayRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"sink_type": "nats", "url": "nats://a", "wire_formt": "raw"}`:                              `did you mean "wire_format"?`,
		`{"sink_type": "nats", "url": "nats://a", "routing": {"rules": [{"when": "a", "to": "x"}]}}`: `"routing.rules[0].to" is not known`,
		`{"sink_type": "natz"}`: "natz",
	} {
		_, err := trial(t, newBuilder(), text)
		if verdict, _ := delivery.VerdictOf(err); err == nil || verdict != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, which lacks %q", text, err, want)
		}
	}
}
