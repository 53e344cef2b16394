package builtin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/push"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/wire"
)

func newBuilder() *Builder {
	return &Builder{
		Near: Near{
			Reader:      func(pipeline.Spec) relay.Reader { return nil },
			Inbox:       func(pipeline.Spec) relay.Inbox { return nil },
			DeadLetters: func(pipeline.Spec) relay.DeadLetters { return nil },
			Claims:      func(pipeline.Spec) push.Inbox { return nil },
		},
		Technologies: Technologies(),
		Resolver: config.Resolver{
			LookupEnv: func(name string) (string, bool) {
				value, ok := map[string]string{"NATS_URL": "nats://from-env:4222", "REGION": "eu"}[name]
				return value, ok
			},
			ReadFile: func(path string) ([]byte, error) {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			},
		},
		Logger: slog.New(slog.DiscardHandler),
	}
}

func build(t *testing.T, direction pipeline.Direction, text string) (relay.Plan, error) {
	t.Helper()
	return newBuilder().Build(context.Background(), pipeline.Spec{Name: "p", Direction: direction, Endpoint: "order_events", Config: []byte(text)})
}

func TestTheTutorialsConfigurationsAreBuilt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		direction pipeline.Direction
		text      string
		changes   int
	}{
		{pipeline.Forward, `{"sink_type": "nats", "url": "nats://nats:4222", "subject_template": "events.orders.{op}"}`, 1},
		{pipeline.Reverse, `{"source_type": "nats", "url": "nats://nats:4222", "subject": "events.orders.>",
			"consumer_group": "payment-service", "durable_name": "payment-service"}`, 0},
		{pipeline.Reverse, `{"source_type": "nats", "url": "nats://nats:4222", "subject": "events.orders.>",
			"consumer_group": "shipping-service", "durable_name": "shipping-service",
			"transform": {"filter": "payload.event_type == 'order.created'"}}`, 1},
	} {
		plan, err := build(t, c.direction, c.text)
		if err != nil {
			t.Fatal(err)
		}
		if (plan.Sink != nil) != (c.direction == pipeline.Forward) || (plan.Source != nil) != (c.direction == pipeline.Reverse) {
			t.Errorf("%s: sink %v, source %v", c.direction, plan.Sink, plan.Source)
		}
		if len(plan.Changes) != c.changes {
			t.Errorf("%s: %d changes, want %d", c.text, len(plan.Changes), c.changes)
		}
	}
}

// TestEveryCommonKeyHasAnEffect fails when a documented key is ignored.
func TestEveryCommonKeyHasAnEffect(t *testing.T) {
	t.Parallel()
	const base = `"sink_type": "nats", "url": "nats://a"`
	event := message.Message{EventID: "e", Outbox: "o", Stream: "s", Op: "insert", Payload: []byte(`{"a": 1}`)}
	route := func(t *testing.T, plan relay.Plan) (string, bool) {
		m := event
		for _, change := range plan.Changes {
			keep, err := change.Apply(&m)
			if err != nil {
				t.Fatal(err)
			}
			if !keep {
				return "", false
			}
		}
		return m.Destination + " " + string(m.Payload), true
	}
	for name, c := range map[string]struct {
		keys  string
		check func(t *testing.T, plan relay.Plan) bool
	}{
		"defaults": {``, func(t *testing.T, p relay.Plan) bool {
			to, _ := route(t, p)
			_, native := p.Codec.(wire.Binary)
			return to == `o.insert {"a": 1}` && native && p.Limits.BatchSize == defaultBatchSize && p.Limits.OnError == pipeline.ParkKey && p.Limits.MaxAttempts == defaultMaxAttempts &&
				p.Limits.MaxDeadLetters == defaultMaxDeadLetters && p.Limits.Lanes == 1 && len(p.LaneSinks) == 0
		}},
		"batch_size":           {`, "batch_size": 7`, func(_ *testing.T, p relay.Plan) bool { return p.Limits.BatchSize == 7 }},
		"lanes":                {`, "lanes": 4`, func(_ *testing.T, p relay.Plan) bool { return p.Limits.Lanes == 4 && len(p.LaneSinks) == 3 }},
		"max_dead_letters":     {`, "max_dead_letters": 9`, func(_ *testing.T, p relay.Plan) bool { return p.Limits.MaxDeadLetters == 9 }},
		"max_attempts":         {`, "max_attempts": 3`, func(_ *testing.T, p relay.Plan) bool { return p.Limits.MaxAttempts == 3 }},
		"on_error":             {`, "on_error": "block"`, func(_ *testing.T, p relay.Plan) bool { return p.Limits.OnError == pipeline.Block }},
		"wire_format":          {`, "wire_format": "cloudevents"`, func(_ *testing.T, p relay.Plan) bool { _, ok := p.Codec.(wire.Structured); return ok }},
		"wire_format debezium": {`, "wire_format": "debezium"`, func(_ *testing.T, p relay.Plan) bool { _, ok := p.Codec.(wire.Debezium); return ok }},
		"wire_format raw":      {`, "wire_format": "raw"`, func(_ *testing.T, p relay.Plan) bool { _, ok := p.Codec.(wire.Raw); return ok }},
		"rate_limit": {`, "rate_limit": {"max_messages_per_second": 2.5, "burst_size": 4}`, func(_ *testing.T, p relay.Plan) bool {
			return p.Limits.RateLimit == pipeline.RateLimit{PerSecond: 2.5, Burst: 4}
		}},
		"circuit_breaker": {`, "circuit_breaker": {"failure_threshold": 3, "open_seconds": 0.5}`, func(_ *testing.T, p relay.Plan) bool {
			return p.Limits.CircuitBreaker.FailureThreshold == 3 && p.Limits.CircuitBreaker.Open.Seconds() == 0.5
		}},
		"transform.filter":   {`, "transform": {"filter": "payload.a == ` + "`2`" + `"}`, func(t *testing.T, p relay.Plan) bool { _, keep := route(t, p); return !keep }},
		"transform.payload":  {`, "transform": {"payload": "payload.a"}`, func(t *testing.T, p relay.Plan) bool { to, _ := route(t, p); return to == "o.insert 1" }},
		"transform.language": {`, "transform": {"language": "cel", "filter": "payload.a > 1"}`, func(t *testing.T, p relay.Plan) bool { _, keep := route(t, p); return !keep }},
		"subject_template":   {`, "subject_template": "x.{stream}"`, func(t *testing.T, p relay.Plan) bool { to, _ := route(t, p); return to == `x.s {"a": 1}` }},
		"subject":            {`, "subject": "x.{stream}"`, func(t *testing.T, p relay.Plan) bool { to, _ := route(t, p); return to == `x.s {"a": 1}` }},
		"routing": {`, "routing": {"rules": [{"when": "payload.a == ` + "`1`" + `", "subject": "one"}], "default": "other"}`, func(t *testing.T, p relay.Plan) bool {
			to, _ := route(t, p)
			return to == `one {"a": 1}`
		}},
		"routing, dropped": {`, "routing": {"rules": [{"when": "payload.a == ` + "`1`" + `", "drop": true}]}`, func(t *testing.T, p relay.Plan) bool {
			_, keep := route(t, p)
			return !keep
		}},
		"routing.drop_unmatched": {`, "routing": {"rules": [{"when": "payload.a == ` + "`2`" + `", "topic": "two"}], "drop_unmatched": true}`, func(t *testing.T, p relay.Plan) bool {
			_, keep := route(t, p)
			return !keep
		}},
		"routing.rules[].topic": {`, "routing": {"rules": [{"when": "payload.a == ` + "`1`" + `", "topic": "one.{op}"}]}`, func(t *testing.T, p relay.Plan) bool {
			to, _ := route(t, p)
			return to == `one.insert {"a": 1}`
		}},
		"routing in CEL": {`, "transform": {"language": "cel"}, "routing": {"rules": [{"when": "payload.a == 1", "subject": "one"}]}`, func(t *testing.T, p relay.Plan) bool {
			to, _ := route(t, p)
			return to == `one {"a": 1}`
		}},
		"routing after the payload": {`, "transform": {"payload": "{a: ` + "`2`" + `}"}, "routing": {"rules": [{"when": "payload.a == ` + "`2`" + `", "subject": "two"}]}`, func(t *testing.T, p relay.Plan) bool {
			to, _ := route(t, p)
			return to == `two {"a":2}`
		}},
		"subject with a reference": {`, "subject": "x.${env:REGION}.{op}"`, func(t *testing.T, p relay.Plan) bool { to, _ := route(t, p); return to == `x.eu.insert {"a": 1}` }},
		"routing.default":          {`, "routing": {"default": "other"}`, func(t *testing.T, p relay.Plan) bool { to, _ := route(t, p); return to == `other {"a": 1}` }},
		"a reference":              {`, "subject": "x"`, func(_ *testing.T, p relay.Plan) bool { return p.Sink != nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "{" + base + c.keys + "}"
			if name == "a reference" {
				text = strings.Replace(text, "nats://a", "${env:NATS_URL}", 1)
			}
			plan, err := build(t, pipeline.Forward, text)
			if err != nil {
				t.Fatal(err)
			}
			if !c.check(t, plan) {
				t.Errorf("%s has no effect: %+v", text, plan.Limits)
			}
		})
	}
}

func TestWrongConfigurationsAreOneSentence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		direction pipeline.Direction
		text      string
		want      []string
	}{
		{"unknown sink", pipeline.Forward, `{"sink_type": "natz"}`, []string{`pipeline "p"`, `"natz"`, "must be one of nats", `did you mean "nats"?`}},
		{"no sink", pipeline.Forward, `{"url": "x"}`, []string{`"sink_type" must name a technology: nats`}},
		{"wrong direction", pipeline.Reverse, `{"sink_type": "nats"}`, []string{`"source_type" is missing`, "tide.relay_set_outbox"}},
		{"not an object", pipeline.Forward, `[]`, []string{"not a JSON object"}},
		{"no url", pipeline.Forward, `{"sink_type": "nats"}`, []string{`"url" is missing`}},
		{"unknown key", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "subject_tamplate": "x"}`, []string{`"subject_tamplate" is not known`, `"subject_template"`}},
		{"lanes", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "lanes": 65}`, []string{`"lanes" is 65`}},
		{"secret", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "token": "${env:NO_SUCH}"}`, []string{"NO_SUCH"}},
		{"file", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "token": "${file:/no/such}"}`, []string{"/no/such"}},
		{"template", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "subject": "x.{nope}"}`, []string{"{nope}"}},
		{"blank in a template", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "subject": "a b.{op}"}`, []string{`"a b.{op}"`}},
		{"wildcard in a template", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "subject": "a.*.{op}"}`, []string{`"a.*.{op}"`}},
		{"empty token in a template", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "subject": "a..{op}"}`, []string{`"a..{op}"`}},
		{"template that ends in a dot", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "subject": "a.{op}."}`, []string{`"a.{op}."`}},
		{"the server's own subjects", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "subject": "$JS.API.{op}"}`, []string{`"$JS.API.{op}"`}},
		{"template of a rule", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"rules": [{"when": "key == 'x'", "subject": "a.*"}]}}`, []string{`"a.*"`}},
		{"key of a rule", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"rules": [{"whem": "x", "subject": "a"}]}}`, []string{`"routing.rules[0].whem" is not known`, `"routing.rules[0].when" is missing`}},
		{"a rule that says nothing", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"rules": [{"when": "key == 'x'"}]}}`, []string{"routing.rules[0]", "drop: true"}},
		{"an empty subject of a rule", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"rules": [{"when": "key == 'x'", "subject": ""}]}}`, []string{"routing.rules[0]", "drop: true"}},
		{"a rule that says two things", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"rules": [{"when": "key == 'x'", "subject": "a", "drop": true}]}}`, []string{"routing.rules[0]", "keep one"}},
		{"two defaults", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"default": "a", "drop_unmatched": true}}`, []string{`"routing.default" is "a"`, "drop_unmatched"}},
		{"an empty default", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"default": ""}}`, []string{`"routing.default" is empty`, "drop_unmatched"}},
		{"everything nowhere", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"rules": [{"when": "key == 'x'", "drop": true}], "drop_unmatched": true}}`, []string{"every event nowhere"}},
		{"expression of a rule", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "routing": {"rules": [{"when": "key == 'x'", "subject": "a"}, {"when": "key == ", "subject": "a"}]}}`, []string{`routing.rules[1].when "key == "`, "character 8"}},
		{"secret in an expression", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "transform": {"filter": "key == '${env:NATS_URL}'"}}`, []string{`"transform.filter" may not hold a reference`}},
		{"misspelt name", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "transform": {"filter": "paylod.a == 'x'"}}`, []string{`did you mean "payload"?`}},
		{"all at once", pipeline.Forward, `{"sink_type": "nats", "batch_size": "7", "wire_format": "avro", "on_eror": "block"}`, []string{`"url" is missing`, `"batch_size"`, `"wire_format" is "avro"`, `"on_eror"`}},
		{"expression", pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "transform": {"filter": "a.["}}`, []string{"transform.filter", "a.["}},
		{"no brokers", pipeline.Forward, `{"sink_type": "kafka"}`, []string{`"brokers" is missing`}},
		{"a topic's name", pipeline.Forward, `{"sink_type": "kafka", "brokers": "a:1", "topic": "a/{op}"}`, []string{`"a/{op}"`, "letters, digits"}},
		{"the brokers' own topics", pipeline.Forward, `{"sink_type": "kafka", "brokers": "a:1", "topic": "__{op}"}`, []string{`"__{op}"`, "brokers' own"}},
		{"no acknowledgement", pipeline.Forward, `{"sink_type": "kafka", "brokers": "a:1", "acks": "none"}`, []string{`"acks" is "none"`, "all", "leader"}},
		{"a group's key on a sink", pipeline.Forward, `{"sink_type": "kafka", "brokers": "a:1", "group_id": "g"}`, []string{`"group_id" is not known`}},
		{"routing in an inbox", pipeline.Reverse, `{"source_type": "nats", "url": "nats://a", "subject": "x", "routing": {}}`, []string{`"routing" is not known`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := build(t, c.direction, c.text)
			if verdict, _ := delivery.VerdictOf(err); err == nil || verdict != delivery.VerdictMisconfigured {
				t.Fatalf("got %v, want the verdict misconfigured", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}

// TestRoutingIsMadeSafeByItsTechnology: each has rules of its own for what is
// filled in and for what a destination may be.
func TestRoutingIsMadeSafeByItsTechnology(t *testing.T) {
	t.Parallel()
	b := newBuilder()
	other := natsTechnology()
	other.Name, other.TemplateKey = "other", "topic"
	other.SinkFields = func() []config.Field {
		return []config.Field{{Name: "topic", Kind: config.String, Default: "{outbox}"}}
	}
	other.Safe = func(value string, _ bool) string { return strings.ReplaceAll(value, "/", "-") }
	other.Destination = func(destination string) error {
		if strings.Contains(destination, " ") {
			return errors.New("it holds a blank")
		}
		return nil
	}
	var templates []string
	other.Sink = func(_ config.Values, ends Ends) (relay.Sink, error) { templates = ends.Templates; return nil, nil }
	b.Technologies = append(b.Technologies, other)
	of := func(text string) (relay.Plan, error) {
		return b.Build(context.Background(), pipeline.Spec{Name: "p", Direction: pipeline.Forward, Endpoint: "shop", Config: []byte(text)})
	}
	plan, err := of(`{"sink_type": "other", "routing": {"rules": [{"when": "op == 'x'", "topic": "a*.{key}"}, {"when": "op == 'y'", "drop": true}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	for op, want := range map[string]string{"x": "a*.b-c.d", "z": "shop"} {
		m := message.Message{Outbox: "shop", Key: "b/c.d", Op: op}
		if keep, err := plan.Changes[0].Apply(&m); !keep || err != nil || m.Destination != want {
			t.Errorf("op %s goes to %q, %t, %v; want %q", op, m.Destination, keep, err, want)
		}
	}
	if want := []string{"{outbox}", "a*.{key}"}; !slices.Equal(templates, want) {
		t.Errorf("the sink is told of %q, want %q", templates, want)
	}
	if _, err := of(`{"sink_type": "other", "routing": {"default": "a b"}}`); err == nil || !strings.Contains(err.Error(), `template "a b" cannot be a destination: it holds a blank`) {
		t.Errorf("got %v", err)
	}
}

func TestAnInboxIsPushedWhereTheConfigurationSaysSo(t *testing.T) {
	t.Parallel()
	const base = `{"source_type": "nats", "url": "nats://a", "subject": "a", "durable_name": "d"`
	for keys, want := range map[string]string{
		`}`: "",
		`, "inbox_push": {"url": "https://payments.example/events", "signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
			"wire_format": "cloudevents", "circuit_breaker": {"open_seconds": 5}}}`: "",
		`, "inbox_push": {}}`: `"inbox_push.url" is missing`,
		`, "inbox_push": {"url": "https://x.example", "signing_secrets": "a"}}`:                       `did you mean "signing_secret"?`,
		`, "inbox_push": {"url": "https://x.example", "circuit_breaker": {"treshold": 1}}}`:           `"inbox_push.circuit_breaker.treshold" is not known`,
		`, "inbox_push": {"url": "http://x.example"}}`:                                                `"inbox_push": url has the scheme http`,
		`, "inbox_push": {"url": "https://x.example", "signing_secret": "${env:NOT_THERE}"}}`:         "NOT_THERE",
		`, "inbox_push": {"url": "https://x.example", "signing_secret": "sesame", "concurrency": 2}}`: "whsec_",
	} {
		plan, err := build(t, pipeline.Reverse, base+keys)
		switch {
		case want == "" && err != nil:
			t.Error(err)
		case want == "" && (plan.Pusher != nil) != strings.Contains(keys, "inbox_push"):
			t.Errorf("%s: pusher %v", keys, plan.Pusher)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame")):
			t.Errorf("%s: %v, want %s", keys, err, want)
		}
	}
	if _, err := build(t, pipeline.Forward, `{"sink_type": "nats", "url": "nats://a", "inbox_push": {"url": "https://x.example"}}`); err == nil {
		t.Error("a forward pipeline takes inbox_push")
	}
}

// A line has no place for headers: all that is known of an event is in its body.
func TestALineIsAStructuredCloudEventAndInNoOtherFormat(t *testing.T) {
	t.Parallel()
	for _, sink := range []string{`"sink_type": "stdout"`, `"sink_type": "file", "path": "/var/lib/events.jsonl"`} {
		for _, format := range []string{"", `, "wire_format": "native"`, `, "wire_format": "cloudevents"`} {
			plan, err := build(t, pipeline.Forward, `{`+sink+format+`}`)
			if err != nil {
				t.Fatal(err)
			}
			e, err := plan.Codec.Encode(&message.Message{EventID: "e", Source: "/d/o", Payload: []byte(`{}`)})
			if err != nil || !strings.HasPrefix(string(e.Body), `{"specversion":"1.0","id":"e"`) {
				t.Errorf("%s%s: the line is %s, %v", sink, format, e.Body, err)
			}
		}
		for _, format := range []string{"debezium", "raw"} {
			_, err := build(t, pipeline.Forward, `{`+sink+`, "wire_format": "`+format+`"}`)
			if err == nil || !strings.Contains(err.Error(), `key "wire_format" is "`+format+`"`) || !strings.Contains(err.Error(), "leave the key out") {
				t.Errorf("%s in the format %s: %v", sink, format, err)
			}
		}
	}
	plan, err := build(t, pipeline.Forward, `{"sink_type": "stdout", "routing": {"rules": [{"when": "op == 'delete'", "drop": true}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	m := message.Message{Op: "insert"}
	if keep, err := plan.Changes[0].Apply(&m); !keep || err != nil || m.Destination != "stdout" || plan.FarEnd != "standard output" {
		t.Errorf("kept %t, to %q of %q, %v", keep, m.Destination, plan.FarEnd, err)
	}
}

func TestAWebhookSinkIsBuilt(t *testing.T) {
	t.Parallel()
	const base = `{"sink_type": "webhook", "url": "https://hooks.example/in"`
	plan, err := build(t, pipeline.Forward, base+`, "path_template": "{stream}/{op}", "lanes": 2}`)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Limits.BatchSize != webhookBatchSize || len(plan.LaneSinks) != 1 {
		t.Errorf("batches of %d, %d sinks besides the first", plan.Limits.BatchSize, len(plan.LaneSinks))
	}
	m := message.Message{EventID: "e", Outbox: "o", Stream: "../a b", Op: "..", Payload: []byte(`{}`)}
	if _, err := plan.Changes[0].Apply(&m); err != nil || m.Destination != "..%2Fa%20b/__" {
		t.Errorf("the destination is %q, %v", m.Destination, err)
	}
	if plan, err = build(t, pipeline.Forward, base+`, "batch_size": 7}`); err != nil || plan.Limits.BatchSize != 7 {
		t.Errorf("batches of %d, %v", plan.Limits.BatchSize, err)
	}
	for _, template := range []string{"a?b", "../a", "a//b", "a b", "a#b"} {
		if _, err := build(t, pipeline.Forward, base+`, "path_template": "`+template+`"}`); err == nil {
			t.Errorf("path_template %q is taken", template)
		}
	}
}

// A batch has one id, one key and one acknowledgement for all its events; only
// a sink that answers for each of them may be asked for it.
func TestBatchesAreForSinksThatAnswerForEachEvent(t *testing.T) {
	t.Parallel()
	const format = `, "wire_format": "cloudevents_batch"`
	plan, err := build(t, pipeline.Forward, `{"sink_type": "webhook", "url": "https://hooks.example/in", "batch_max_events": 20`+format+`}`)
	if err != nil {
		t.Fatal(err)
	}
	e, err := plan.Codec.Encode(&message.Message{EventID: "e", Source: "/d/o", Payload: []byte(`{}`)})
	if err != nil || !strings.HasPrefix(string(e.Body), `{"specversion":"1.0","id":"e"`) {
		t.Errorf("an event of a batch is %s, %v", e.Body, err)
	}
	for _, sink := range []string{`"nats", "url": "nats://nats:4222", "subject": "a.b"`, `"kafka", "brokers": "k:9092", "topic": "a"`, `"stdout"`,
		`"pg_inbox", "url": "postgres://h/d", "inbox": "i"`} {
		_, err := build(t, pipeline.Forward, `{"sink_type": `+sink+format+`}`)
		if err == nil || !strings.Contains(err.Error(), `key "wire_format" is "cloudevents_batch"`) || !strings.Contains(err.Error(), `write "cloudevents"`) {
			t.Errorf("%s: %v", sink, err)
		}
	}
	if _, err := build(t, pipeline.Forward, `{"sink_type": "webhook", "url": "https://hooks.example/in", "batch_max_events": 20}`); err == nil ||
		!strings.Contains(err.Error(), "set wire_format to cloudevents_batch") {
		t.Errorf("a bound on batches without batches: %v", err)
	}
	if _, err := build(t, pipeline.Reverse, `{"source_type": "nats", "url": "nats://nats:4222", "subject": "a.b"`+format+`}`); err == nil ||
		!strings.Contains(err.Error(), "must be one of native") {
		t.Errorf("a source: %v", err)
	}
}
