package nats_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func sinkTo(server *natstest.Server, template string, more values) values {
	return values{"url": server.URL(), "subject_template": template}.with(more)
}

func sourceFrom(server *natstest.Server, subject string, more values) values {
	return values{"url": server.URL(), "subject": subject}.with(more)
}

func TestCreatesOneSafeStreamWhoeverComesFirst(t *testing.T) {
	t.Parallel()
	// Sinks and sources of one bus, some wider than others.
	parts := func(t *testing.T, server *natstest.Server) []opener {
		return []opener{
			newSink(t, sinkTo(server, "events.orders.{op}", nil)),
			newSink(t, sinkTo(server, "events.stock.{op}", nil)),
			newSource(t, sourceFrom(server, "events.orders.>", nil), "db-1"),
			newSource(t, sourceFrom(server, "events.>", nil), "db-2"),
			newSource(t, sourceFrom(server, "events.orders.insert", nil), "db-3"),
		}
	}
	for first := range 5 {
		t.Run(fmt.Sprint("starting with ", first), func(t *testing.T) {
			t.Parallel()
			server, js := start(t)
			all := parts(t, server)
			for i := range all {
				open(background(t), t, all[(first+i)%len(all)])
			}
			cfg := streamInfo(t, js, "tide-events").Config
			if !slices.Equal(cfg.Subjects, []string{"events", "events.>"}) {
				t.Errorf("subjects %v", cfg.Subjects)
			}
			if cfg.Storage != jetstream.FileStorage || cfg.Duplicates != 2*time.Minute || cfg.Retention != jetstream.LimitsPolicy ||
				cfg.MaxMsgs != -1 || cfg.MaxBytes != -1 || cfg.MaxAge != 0 || cfg.Replicas != 1 {
				t.Errorf("the stream is not the safe one: %+v", cfg)
			}
		})
	}
}

func TestTenConnectionsRaceToCreate(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	var all sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		var o opener = newSink(t, sinkTo(server, fmt.Sprintf("events.n%d.{op}", i), values{"duplicate_window": fmt.Sprint(2+i%3, "m")}))
		if i%2 == 1 {
			o = newSource(t, sourceFrom(server, "events.>", values{"durable_name": "shared"}), fmt.Sprint("db-", i))
		}
		all.Go(func() {
			errs[i] = o.Open(ctx)
			if err := o.Close(ctx); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	// Who widened last may have undone another's window; it comes back.
	open(ctx, t, newSink(t, sinkTo(server, "events.{op}", values{"duplicate_window": "4m"})))
	if got := streamInfo(t, js, "tide-events").Config.Duplicates; got != 4*time.Minute {
		t.Errorf("duplicate window %s, the widest asked for is 4m", got)
	}
}

func TestTakesItsSettingsFromTheConfiguration(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	open(ctx, t, newSink(t, sinkTo(server, "sales.eu.{op}", values{"stream": "SALES", "storage": "memory", "duplicate_window": "1h"})))
	cfg := streamInfo(t, js, "SALES").Config
	if cfg.Storage != jetstream.MemoryStorage || cfg.Duplicates != time.Hour || !slices.Equal(cfg.Subjects, []string{"sales.eu", "sales.eu.>"}) {
		t.Errorf("the stream ignores the configuration: %+v", cfg)
	}
	// A stream of ours that is named again is widened.
	open(ctx, t, newSink(t, sinkTo(server, "sales.us.{op}", values{"stream": "SALES", "duplicate_window": "3h"})))
	cfg = streamInfo(t, js, "SALES").Config
	if !slices.Contains(cfg.Subjects, "sales.us.>") || !slices.Contains(cfg.Subjects, "sales.eu.>") || cfg.Duplicates != 3*time.Hour {
		t.Errorf("the stream was not widened: %+v", cfg)
	}
	wantError(t, newSink(t, sinkTo(server, "x.{op}", values{"replicas": 3})).Open(ctx), delivery.VerdictMisconfigured, "replicas")
	wantError(t, newSink(t, sinkTo(server, "x.{op}", values{"create_stream": false})).Open(ctx), delivery.VerdictMisconfigured,
		"create_stream is false", "nats stream add tide-x --subjects 'x,x.>'")
	wantError(t, newSource(t, sourceFrom(server, "x.>", values{"create_stream": false, "stream": "X"}), "db").Open(ctx),
		delivery.VerdictMisconfigured, "nats stream add X")
}

func TestUsesAStreamOfOthersAsItIs(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	addStream(t, js, jetstream.StreamConfig{Name: "THEIRS", Subjects: []string{"events.orders.*"}, MaxAge: time.Hour, MaxMsgs: 10})
	before := streamInfo(t, js, "THEIRS").Config
	sink := newSink(t, sinkTo(server, "events.orders.{op}", values{"duplicate_window": "1h"}))
	open(ctx, t, sink)
	if err := send(ctx, sink, sinktest.Envelopes("events.orders.insert", 1, 3)...); err != nil {
		t.Fatalf("send: %v", err)
	}
	open(ctx, t, newSource(t, sourceFrom(server, "events.orders.*", nil), "db-1"))
	after := streamInfo(t, js, "THEIRS")
	if after.State.Msgs != 3 || after.Config.Duplicates != before.Duplicates || !slices.Equal(after.Config.Subjects, before.Subjects) {
		t.Errorf("the stream was changed or not used: %+v", after)
	}
	// In the way of the first token: what lies beside it gets a narrower stream.
	open(ctx, t, newSink(t, sinkTo(server, "events.stock.{op}", nil)))
	if got := streamInfo(t, js, "tide-events-stock").Config.Subjects; !slices.Equal(got, []string{"events.stock", "events.stock.>"}) {
		t.Errorf("the narrower stream takes %v", got)
	}
	open(ctx, t, newSource(t, sourceFrom(server, "events.stock.>", nil), "db-1"))
}

func TestNamesTheReasonWhyAStreamDoesNotFit(t *testing.T) {
	t.Parallel()
	type refusal struct {
		stream  jetstream.StreamConfig
		fill    int
		config  values
		verdict delivery.Verdict
		says    []string
	}
	const bad = delivery.VerdictMisconfigured
	for name, c := range map[string]refusal{
		"takes a part only":    {jetstream.StreamConfig{Name: "S", Subjects: []string{"events.orders.insert"}}, 0, nil, bad, []string{"stream S takes events.orders.insert, which is not all of events.orders.*"}},
		"takes other things":   {jetstream.StreamConfig{Name: "S", Subjects: []string{"other.>"}}, 0, values{"stream": "S"}, bad, []string{"stream S takes other.>", "nothing of events.orders.*"}},
		"subjects overlap":     {jetstream.StreamConfig{Name: "S", Subjects: []string{"events.orders.>"}}, 0, values{"stream": "MINE"}, bad, []string{"MINE cannot be created", "overlap those of S"}},
		"acknowledges nothing": {jetstream.StreamConfig{Name: "S", Subjects: []string{"events.>"}, NoAck: true}, 0, nil, bad, []string{"no_ack"}},
		"nobody is interested": {jetstream.StreamConfig{Name: "S", Subjects: []string{"events.>"}, Retention: jetstream.InterestPolicy}, 0, nil, bad, []string{"wrong retention"}},
		"counts":               {jetstream.StreamConfig{Name: "S", Subjects: []string{"events.>"}, AllowMsgCounter: true}, 0, nil, bad, []string{"keeps counters"}},
		"is full":              {jetstream.StreamConfig{Name: "S", Subjects: []string{"events.>"}, MaxMsgs: 2, Discard: jetstream.DiscardNew}, 2, nil, delivery.VerdictRetry, []string{"stream S is full"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, js := start(t)
			addStream(t, js, c.stream)
			publish(t, js, sinktest.Envelopes("events.orders.insert", 1, c.fill))
			wantError(t, newSink(t, sinkTo(server, "events.orders.{op}", c.config)).Open(background(t)), c.verdict, c.says...)
		})
	}
}

func TestNamesSealedAndMirroredStreams(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	addStream(t, js, jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin.>"}})
	addStream(t, js, jetstream.StreamConfig{Name: "MIRROR", Mirror: &jetstream.StreamSource{Name: "ORIGIN"}})
	wantError(t, newSink(t, sinkTo(server, "origin.{op}", values{"stream": "MIRROR"})).Open(ctx), delivery.VerdictMisconfigured, "is a mirror of ORIGIN")
	publish(t, js, sinktest.Envelopes("origin.insert", 1, 1))
	source := newSource(t, sourceFrom(server, "origin.>", values{"stream": "MIRROR"}), "db-1")
	open(ctx, t, source)
	if _, err := source.Fetch(ctx, 1); err != nil {
		t.Errorf("a mirror can be read: %v", err)
	}
	cfg := streamInfo(t, js, "ORIGIN").Config
	cfg.Sealed = true
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		t.Fatalf("seal: %v", err)
	}
	wantError(t, newSink(t, sinkTo(server, "origin.{op}", nil)).Open(ctx), delivery.VerdictMisconfigured, "is sealed")
}

func TestNamesSeveralStreamsInTheWay(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	addStream(t, js, jetstream.StreamConfig{Name: "A", Subjects: []string{"events.a.>"}})
	addStream(t, js, jetstream.StreamConfig{Name: "B", Subjects: []string{"events.b.>"}})
	wantError(t, newSource(t, sourceFrom(server, "events.>", nil), "db-1").Open(ctx), delivery.VerdictMisconfigured, "several streams (A, B)")
	wantError(t, newSource(t, sourceFrom(server, "*.c", nil), "db-1").Open(ctx), delivery.VerdictMisconfigured, "without a fixed first token")
}

func TestSaysThatJetStreamIsOff(t *testing.T) {
	t.Parallel()
	off := natstest.Start(t, natstest.Options{NoJetStream: true})
	ctx := background(t)
	wantError(t, newSink(t, sinkTo(off, "events.{op}", nil)).Open(ctx), delivery.VerdictMisconfigured, "JetStream is off")
	wantError(t, newSource(t, sourceFrom(off, "events.>", nil), "db-1").Open(ctx), delivery.VerdictMisconfigured, "JetStream is off")

	account := natstest.Start(t, natstest.Options{Extra: `accounts { A: { users: [ { user: a, password: p } ] }, B: { jetstream: enabled, users: [ { user: b, password: p } ] } }`})
	wantError(t, newSink(t, sinkTo(account, "events.{op}", values{"username": "a", "password": "p"})).Open(ctx),
		delivery.VerdictMisconfigured, "JetStream is off for this user's account")
	open(ctx, t, newSink(t, sinkTo(account, "events.{op}", values{"username": "b", "password": "p"})))
}

func TestNamesWhatIsNotPermitted(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Options{Login: natstest.Users(map[string]string{
		"nothing":  `{ publish: "some.>", subscribe: "_INBOX.>" }`,
		"deaf":     `{ publish: ">", subscribe: "some.>" }`,
		"inserter": `{ publish: { allow: ">", deny: "events.delete" }, subscribe: ">" }`,
		"no-ack":   `{ publish: { allow: ">", deny: "$JS.ACK.>" }, subscribe: ">" }`,
	})})
	ctx := background(t)
	as := func(user string) values { return values{"username": user, "password": natstest.Password(user)} }
	const refused = delivery.VerdictMisconfigured
	wantError(t, newSink(t, sinkTo(server, "events.{op}", as("nothing"))).Open(ctx), refused, "does not permit it", `publishing to subject "$JS.API.STREAM.NAMES" is refused`)
	wantError(t, newSink(t, sinkTo(server, "events.{op}", as("deaf"))).Open(ctx), refused, "does not permit it", "subscribing to subject \"_INBOX.")

	sink := newSink(t, sinkTo(server, "events.{op}", as("inserter")))
	open(ctx, t, sink)
	if err := send(ctx, sink, sinktest.Envelopes("events.insert", 1, 1)...); err != nil {
		t.Fatalf("send what is permitted: %v", err)
	}
	err := send(ctx, sink, sinktest.Envelopes("events.delete", 2, 1)...)
	wantError(t, err, refused, `publishing to subject "events.delete" is refused`)

	source := newSource(t, sourceFrom(server, "events.>", as("no-ack")), "db-1")
	open(ctx, t, source)
	fetched, err := source.Fetch(ctx, 1)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	wantError(t, fetched.Acknowledge(ctx), refused, `publishing to subject "$JS.ACK.`)
}

func TestSaysWhatTheBrokerRefusesOfASend(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	addStream(t, js, jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full.>"}, MaxMsgs: 2, Discard: jetstream.DiscardNew})
	addStream(t, js, jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small.>"}, MaxMsgSize: 200})
	addStream(t, js, jetstream.StreamConfig{Name: "GONE", Subjects: []string{"gone.>"}})
	full, small, gone := newSink(t, sinkTo(server, "full.{op}", nil)), newSink(t, sinkTo(server, "small.{op}", nil)), newSink(t, sinkTo(server, "gone.{op}", nil))
	for _, sink := range []opener{full, small, gone} {
		open(ctx, t, sink)
	}
	wantError(t, send(ctx, full, sinktest.Envelopes("full.x", 1, 5)...), delivery.VerdictRetry, "stream FULL is full")

	large := sinktest.Envelopes("small.x", 1, 3)
	large[1].Body = fmt.Appendf(nil, "%0200d", 1)
	wantError(t, send(ctx, small, large...), delivery.VerdictReject, "too large", "SMALL takes 200 (max_msg_size)")
	if n := streamInfo(t, js, "SMALL").State.Msgs; n != 0 {
		t.Errorf("%d events of a refused batch were sent", n)
	}

	if err := js.DeleteStream(ctx, "GONE"); err != nil {
		t.Fatalf("delete: %v", err)
	}
	wantError(t, send(ctx, gone, sinktest.Envelopes("gone.x", 1, 1)...), delivery.VerdictRetry, `no stream takes subject "gone.x"`)
	if err := gone.Open(ctx); err != nil {
		t.Fatalf("open again: %v", err)
	}
	if err := send(ctx, gone, sinktest.Envelopes("gone.x", 1, 1)...); err != nil {
		t.Errorf("the stream was not made again: %v", err)
	}
}

func TestRefusesEventsThatWouldCommandTheBroker(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	sink := newSink(t, sinkTo(server, "events.{op}", nil))
	open(ctx, t, sink)
	for name, change := range map[string]func(context.Context) error{
		"is reserved": func(ctx context.Context) error { return sendHeader(ctx, sink, "Nats-Rollup", "all") },
		"reserved":    func(ctx context.Context) error { return sendHeader(ctx, sink, "nats-ttl", "1s") },
		"its name":    func(ctx context.Context) error { return sendHeader(ctx, sink, "a b", "x") },
		"no name":     func(ctx context.Context) error { return sendHeader(ctx, sink, "", "x") },
		"line break":  func(ctx context.Context) error { return sendHeader(ctx, sink, "a", "x\r\nNats-Rollup: all") },
		"wildcard":    func(ctx context.Context) error { return send(ctx, sink, sinktest.Envelopes("events.>", 1, 1)...) },
		"empty token": func(ctx context.Context) error { return send(ctx, sink, sinktest.Envelopes("events.", 1, 1)...) },
	} {
		wantError(t, change(ctx), delivery.VerdictReject, name)
	}
	if n := streamInfo(t, js, "tide-events").State.Msgs; n != 0 {
		t.Errorf("%d of them were sent", n)
	}
}

func sendHeader(ctx context.Context, sink sender, name, value string) error {
	batch := sinktest.Envelopes("events.insert", 1, 1)
	batch[0].Headers = append(batch[0].Headers, header(name, value))
	return send(ctx, sink, batch...)
}
