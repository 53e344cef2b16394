package e2e

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
)

// TestTheStatusSaysInWordsWhatTheBrokerRefuses makes each trouble for real and
// reads the sentence where an operator does: in tide.relay_status.
func TestTheStatusSaysInWordsWhatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	const subject = `, "subject": "shop.events"`
	for name, c := range map[string]struct {
		server  natstest.Options
		stream  *jetstream.StreamConfig
		remove  bool // the stream, once the pipeline runs
		config  string
		publish string
		want    string
	}{
		"JetStream is off": {server: natstest.Options{NoJetStream: true}, config: subject, want: "JetStream is off"},
		"wrong password": {server: natstest.Options{Login: natstest.Users(map[string]string{"shop": ""})},
			config: subject + `, "username": "shop", "password": "wrong"`, want: "refuse"},
		"subjects overlap": {config: `, "subject": "shop.events", "stream": "MINE"`,
			stream: &jetstream.StreamConfig{Name: "THEIRS", Subjects: []string{"shop.>"}}, want: "THEIRS"},
		"stream full": {config: subject, want: "is full",
			stream: &jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"shop.>"}, MaxMsgs: 1, Discard: jetstream.DiscardNew}},
		"no responders": {config: subject, want: "no responders", remove: true,
			stream: &jetstream.StreamConfig{Name: "GONE", Subjects: []string{"shop.>"}}},
		"message too large": {server: natstest.Options{MaxPayload: 4096}, config: subject + `, "on_error": "block"`,
			publish: `jsonb_build_object('pad', repeat('x', 10000))`, want: "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t, c.server)
			if c.stream != nil {
				if _, err := server.JetStream(t).CreateStream(t.Context(), *c.stream); err != nil {
					t.Fatal(err)
				}
			}
			s := newService(t)
			s.execute(t, `create extension pg_tide`)
			s.execute(t, `select tide.outbox_create('shop')`)
			s.execute(t, `select tide.relay_set_outbox('shop-to-nats', 'shop', $1::jsonb)`, `{"sink_type": "nats", "url": "`+server.URL()+`"`+c.config+`}`)
			startRelay(t, s.dsn)
			if c.remove {
				s.awaitStatus(t, "shop-to-nats", `r.state = 'running'`)
				if err := server.JetStream(t).DeleteStream(t.Context(), c.stream.Name); err != nil {
					t.Fatal(err)
				}
			}
			if c.publish == "" {
				c.publish = `'{}'::jsonb`
			}
			for range 2 { // the first fills the small stream
				s.execute(t, `select tide.outbox_publish('shop', 'shop', `+c.publish+`)`)
			}
			s.awaitStatus(t, "shop-to-nats", `r.state <> 'running' and r.reason ilike '%`+c.want+`%'`)
			t.Log(one[string](t, s, `select state || ': ' || reason from tide.relay_status`))
		})
	}
}

func TestTheStatusSaysWhichPermissionIsMissing(t *testing.T) {
	t.Parallel()
	login := natstest.Users(map[string]string{"admin": "", "shop": `{ publish: { allow: ["$JS.API.>"] }, subscribe: ["_INBOX.>"] }`})
	server := natstest.Start(t, natstest.Options{Login: login})
	s := newService(t)
	s.execute(t, `create extension pg_tide`)
	s.execute(t, `select tide.outbox_create('shop')`)
	s.execute(t, `select tide.relay_set_outbox('shop-to-nats', 'shop', $1::jsonb)`,
		`{"sink_type": "nats", "url": "`+server.URL()+`", "subject": "shop.events", "username": "shop", "password": "`+natstest.Password("shop")+`"}`)
	s.execute(t, `select tide.outbox_publish('shop', 'shop', '{}'::jsonb)`)
	startRelay(t, s.dsn)
	s.awaitStatus(t, "shop-to-nats", `r.state <> 'running' and r.reason like '%shop.events%' and r.reason ilike '%permi%'`)
	t.Log(one[string](t, s, `select state || ': ' || reason from tide.relay_status`))
}
