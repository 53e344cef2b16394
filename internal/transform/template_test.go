package transform

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

func TestTemplatesFillInEveryPlaceholder(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"events.orders.{op}": "events.orders.insert",
		"{outbox}.{op}":      "order_events.insert",
		"{outbox_name}":      "order_events",
		"{stream}.x":         "orders.x",
		"{stream_table}":     "orders",
		"t.{event_type}":     "t.order.created",
		"k.{key}":            "k.K-1",
		"{event_id}":         "e1",
		"{outbox_id}":        "42",
		"c.{payload.customer.id}.{payload.total}": "c.CUST-42.149_99",
		"{headers.tenant}":                        "acme",
		"{headers.x-y}":                           "z",
		"m.{payload.no.such}":                     "m._",
		"plain":                                   "plain",
	} {
		compiled, err := CompileTemplate(template, NATSToken)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := compiled.Expand(order(created)); err != nil || got != want {
			t.Errorf("%s gave %q, %v; want %q", template, got, err, want)
		}
	}
}

func TestWrongTemplatesAreRefused(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"":              "empty",
		"a.{nope}":      "{nope} is not known",
		"a.{strem}":     "did you mean {stream}?",
		"{customer_id}": "a field of the payload is written {payload.customer_id}",
		"a.{op":         "without a }",
		"a.op}":         "without a {",
		"{payload}":     "not known",
		"{payload..a}":  "empty step",
		"{headers.}":    "empty step",
	} {
		if _, err := CompileTemplate(template, NATSToken); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", template, err, want)
		}
	}
}

func TestAPathToAnObjectIsTheEventsFailure(t *testing.T) {
	t.Parallel()
	compiled, err := CompileTemplate("x.{payload.customer}", NATSToken)
	if err != nil {
		t.Fatal(err)
	}
	_, err = compiled.Expand(order(created))
	if verdict, _ := delivery.VerdictOf(err); err == nil || verdict != delivery.VerdictReject {
		t.Errorf("got %v", err)
	}
}

// TestNoEventSpeaksToTheServer: subjects that begin with $ are the broker's own.
func TestNoEventSpeaksToTheServer(t *testing.T) {
	t.Parallel()
	for _, template := range []string{"{stream}", "{event_type}", "{key}.x", "{payload.to}"} {
		compiled, err := CompileTemplate(template, NATSToken)
		if err != nil {
			t.Fatal(err)
		}
		const evil = "$JS.API.STREAM.DELETE.ORDERS"
		m := &message.Message{Stream: evil, EventType: evil, Key: evil, Payload: []byte(`{"to": "` + evil + `"}`)}
		if got, err := compiled.Expand(m); err != nil || strings.HasPrefix(got, "$") {
			t.Errorf("%s gave %q, %v", template, got, err)
		}
	}
}

func TestADestinationThatIsTooLongIsTheEventsFailure(t *testing.T) {
	t.Parallel()
	compiled, err := CompileTemplate("x.{key}", NATSToken)
	if err != nil {
		t.Fatal(err)
	}
	_, err = compiled.Expand(&message.Message{EventID: "e1", Key: strings.Repeat("k", longestDestination)})
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject || !strings.Contains(err.Error(), "event e1") {
		t.Errorf("got %v", err)
	}
	if _, err = compiled.Expand(&message.Message{Key: strings.Repeat("k", longestDestination-2)}); err != nil {
		t.Errorf("got %v for the longest destination", err)
	}
}

// validSubject tells whether a publisher may use subject in NATS.
func validSubject(subject string) bool {
	if subject == "" || !utf8.ValidString(subject) {
		return false
	}
	for _, token := range strings.Split(subject, ".") {
		if token == "" || strings.ContainsAny(token, " \t\r\n\x00*>") {
			return false
		}
	}
	return true
}

// TestNoEventLeavesThePrefixThatTheOperatorWrote fills in what favours
// leaving it: wildcards, dots, blanks, control characters and nothing.
func TestNoEventLeavesThePrefixThatTheOperatorWrote(t *testing.T) {
	t.Parallel()
	nasty := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune(".*> \t\r\n\x00\u00a0\u2028$_-")), rapid.RuneFrom([]rune("abcé中😀"))))
	rapid.Check(t, func(t *rapid.T) {
		m := &message.Message{Outbox: nasty.Draw(t, "outbox"), Stream: nasty.Draw(t, "stream"), Key: nasty.Draw(t, "key"), Op: nasty.Draw(t, "op"),
			EventType: nasty.Draw(t, "type"), EventID: nasty.Draw(t, "id")}
		var err error
		if m.Payload, err = writeJSON(map[string]string{"a": nasty.Draw(t, "payload")}); err != nil {
			t.Fatal(err)
		}
		dotted := rapid.SampledFrom([]string{"{stream}", "{event_type}", "{stream_table}"}).Draw(t, "dotted")
		plain := rapid.SampledFrom([]string{"{outbox}", "{key}", "{op}", "{event_id}", "{payload.a}", "{payload.b}", "{outbox_id}"}).Draw(t, "plain")
		compiled, err := CompileTemplate("events.shop."+plain+".x"+dotted, NATSToken)
		if err != nil {
			t.Fatal(err)
		}
		got, err := compiled.Expand(m)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(got, "events.shop.") || !validSubject(got) {
			t.Fatalf("the destination is %q", got)
		}
		// A plain value is one token, so what follows it stays where it was.
		if !strings.HasPrefix(strings.Split(got, ".")[3], "x") {
			t.Fatalf("a value without dots spread over tokens: %q", got)
		}
	})
}

func TestSubjectsThatNobodyCanPublishToAreRefused(t *testing.T) {
	t.Parallel()
	for template, right := range map[string]bool{
		"events.{op}": true, "{stream}": true, "{a}": false, "$KV.orders.{key}": true, "événements.{op}": true,
		"a.*.{op}": false, "a.>": false, "a b.{op}": false, "x{key} y": false, "a\t": false, "a\x00": false, "a\u2003b": false, "\xff": false,
		"{stream}..x": false, ".{stream}": false, "{stream}.": false, "$JS.API.{op}": false, "$SYS.{op}": false,
		// an event would complete the name
		"${stream}": false, "$J{op}.{stream}": false, "$K{key}.x": false, "$KV{key}": false, "${outbox}.{op}": false, "$SRV.{op}": false,
		"$O.files.{key}": true, "a.${op}": true,
	} {
		compiled, err := CompileTemplate(template, NATSToken)
		if err == nil {
			err = NATSSubject(compiled.Skeleton())
		}
		if (err == nil) != right {
			t.Errorf("%q: %v", template, err)
		}
	}
}

func FuzzNATSToken(f *testing.F) {
	f.Add("a.>", true)
	f.Add("", false)
	f.Fuzz(func(t *testing.T, value string, dots bool) {
		got := NATSToken(value, dots)
		if !validSubject(got) || strings.HasPrefix(got, "$") || !dots && strings.Contains(got, ".") {
			t.Errorf("%q became %q", value, got)
		}
	})
}

func FuzzTemplatesGiveSubjectsBehindTheirPrefix(f *testing.F) {
	f.Add("a.{op}.{payload.x}", `{"x": 1}`, "o")
	f.Add("{stream}..{key}", `{}`, "$a.>")
	f.Add("${stream}", `{}`, "JS.API.STREAM.DELETE.ORDERS")
	f.Fuzz(func(t *testing.T, template, payload, value string) {
		compiled, err := CompileTemplate(template, NATSToken)
		if err != nil || NATSSubject(compiled.Skeleton()) != nil {
			return
		}
		m := &message.Message{Outbox: value, Stream: value, Key: value, Op: value, EventType: value, EventID: value, Payload: []byte(payload)}
		got, err := compiled.Expand(m)
		if err != nil {
			return
		}
		prefix, _, _ := strings.Cut(template, "{")
		if strings.HasPrefix(got, "$") && !strings.HasPrefix(prefix, "$KV.") && !strings.HasPrefix(prefix, "$O.") && got != template {
			t.Errorf("%q gave %q, which speaks to the server", template, got)
		}
		if !validSubject(got) || !strings.HasPrefix(got, prefix) {
			t.Errorf("%q gave %q", template, got)
		}
	})
}
