package nats_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
)

var (
	_ relay.Sink    = (*nats.Sink)(nil)
	_ relay.Witness = (*nats.Sink)(nil)
	_ relay.Watcher = (*nats.Sink)(nil)
	_ relay.Source  = (*nats.Source)(nil)

	_ relay.Backlogger = (*nats.Source)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// values is a decoded configuration.
type values map[string]any

func (v values) Has(name string) bool { _, found := v[name]; return found }

func (v values) String(name string) string { s, _ := v[name].(string); return s }

func (v values) Int(name string) int64 { i, _ := v[name].(int); return int64(i) }

func (v values) Bool(name string) bool {
	b, found := v[name].(bool)
	return b || (!found && name == "create_stream")
}

func (v values) with(other values) values {
	all := maps.Clone(v)
	maps.Copy(all, other)
	return all
}

func newSink(t testing.TB, v values) *nats.Sink {
	t.Helper()
	sink, err := natsSink(v)
	if err != nil {
		t.Fatalf("make a sink: %v", err)
	}
	return sink
}

func natsSink(v values) (*nats.Sink, error) {
	return nats.NewSink(v, nats.Deps{Pipeline: "orders-to-nats", DatabaseID: "db-1", Outbox: "order_events"})
}

func natsSource(v values) (*nats.Source, error) {
	return nats.NewSource(v, nats.Deps{Pipeline: "orders-for-payments", DatabaseID: "db-1"})
}

func newSource(t testing.TB, v values, database string) *nats.Source {
	t.Helper()
	source, err := nats.NewSource(v, nats.Deps{Pipeline: "orders-for-payments", DatabaseID: database})
	if err != nil {
		t.Fatalf("make a source: %v", err)
	}
	return source
}

// opener is what sinks and sources have in common.
type opener interface {
	Open(ctx context.Context) error
	Close(ctx context.Context) error
}

// open opens it until the test ends.
func open(ctx context.Context, t testing.TB, o opener) {
	t.Helper()
	if err := o.Open(ctx); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := o.Close(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// sender is what a sink does.
type sender interface {
	Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error)
}

func header(name, value string) message.Header { return message.Header{Name: name, Value: value} }

func send(ctx context.Context, sink sender, envelopes ...message.Envelope) error {
	receipt, err := sink.Send(ctx, envelopes)
	if err != nil {
		return err
	}
	return receipt.Wait(ctx)
}

// wantError asserts verdict and sentence.
func wantError(t testing.TB, err error, verdict delivery.Verdict, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	var partial *delivery.Partial
	if errors.As(err, &partial) {
		first, _ := partial.First()
		err = partial.Failed[first]
	}
	if got, _ := delivery.VerdictOf(err); got != verdict {
		t.Errorf("verdict %d, want %d: %v", got, verdict, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the sentence lacks %q: %v", part, err)
		}
	}
}

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func addStream(t testing.TB, js jetstream.JetStream, cfg jetstream.StreamConfig) {
	t.Helper()
	if _, err := js.CreateStream(background(t), cfg); err != nil {
		t.Fatalf("create stream %s: %v", cfg.Name, err)
	}
}

func streamInfo(t testing.TB, js jetstream.JetStream, name string) *jetstream.StreamInfo {
	t.Helper()
	stream, err := js.Stream(background(t), name)
	if err != nil {
		t.Fatalf("look up stream %s: %v", name, err)
	}
	return stream.CachedInfo()
}

// stored reads a whole stream, in order.
func stored(t testing.TB, js jetstream.JetStream, name string) []message.Envelope {
	t.Helper()
	ctx := background(t)
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		t.Fatalf("look up stream %s: %v", name, err)
	}
	var all []message.Envelope
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		raw, err := stream.GetMsg(ctx, sequence)
		if err != nil {
			t.Fatalf("read message %d of %s: %v", sequence, name, err)
		}
		e := message.Envelope{Destination: raw.Subject, Body: raw.Data, EventID: raw.Header.Get(jetstream.MsgIDHeader)}
		for header, headerValues := range raw.Header {
			e.Headers = append(e.Headers, message.Header{Name: header, Value: headerValues[0]})
		}
		all = append(all, e)
	}
	return all
}

func publish(t testing.TB, js jetstream.JetStream, envelopes []message.Envelope) {
	t.Helper()
	for i := range envelopes {
		m := &natsgo.Msg{Subject: envelopes[i].Destination, Data: envelopes[i].Body, Header: natsgo.Header{}}
		for _, h := range envelopes[i].Headers {
			m.Header[h.Name] = append(m.Header[h.Name], h.Value)
		}
		if envelopes[i].EventID != "" {
			m.Header.Set(jetstream.MsgIDHeader, envelopes[i].EventID)
		}
		publishOne(t, js, m)
	}
}

// publishOne tries again when the server was restarted under it.
func publishOne(t testing.TB, js jetstream.JetStream, m *natsgo.Msg) {
	t.Helper()
	natstest.Eventually(t, "publish to "+m.Subject, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := js.PublishMsg(ctx, m)
		return err == nil
	})
}

func start(t testing.TB) (*natstest.Server, jetstream.JetStream) {
	t.Helper()
	server := natstest.Start(t, natstest.Options{})
	return server, server.JetStream(t)
}
