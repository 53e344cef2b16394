package kafka_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
)

var (
	_ relay.Sink     = (*kafka.Sink)(nil)
	_ relay.Witness  = (*kafka.Sink)(nil)
	_ relay.Watcher  = (*kafka.Sink)(nil)
	_ relay.Remarker = (*kafka.Sink)(nil)
	_ relay.Guarded  = (*kafka.Sink)(nil)
	_ relay.Source   = (*kafka.Source)(nil)

	_ relay.Backlogger = (*kafka.Source)(nil)
)

// brokers is one real broker that the tests share.
var brokers = &kafkatest.Shared{}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(cleanUp{m})
}

type cleanUp struct{ m *testing.M }

func (c cleanUp) Run() int {
	defer brokers.Close()
	return c.m.Run()
}

// topicOf is a topic of the test's own.
func topicOf(t testing.TB) string {
	return "t." + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name()[max(0, len(t.Name())-200):])
}

// values is a decoded configuration.
type values map[string]any

func (v values) Has(name string) bool { _, found := v[name]; return found }

func (v values) String(name string) string { s, _ := v[name].(string); return s }

func (v values) Int(name string) int64 { i, _ := v[name].(int); return int64(i) }

func (v values) Bool(name string) bool {
	b, found := v[name].(bool)
	return b || (!found && name == "create_topic")
}

func (v values) with(other values) values {
	all := maps.Clone(v)
	maps.Copy(all, other)
	return all
}

func makeSink(v values) (*kafka.Sink, error) {
	return kafka.NewSink(v, kafka.Deps{Pipeline: "orders-to-kafka", DatabaseID: "db-1", Outbox: "order_events"})
}

func newSink(t testing.TB, v values) *kafka.Sink {
	t.Helper()
	sink, err := makeSink(v)
	if err != nil {
		t.Fatalf("make a sink: %v", err)
	}
	return sink
}

func makeSource(v values) (*kafka.Source, error) {
	return kafka.NewSource(v, kafka.Deps{Pipeline: "orders-for-payments", DatabaseID: "db-1"})
}

func newSource(t testing.TB, v values, database string) *kafka.Source {
	t.Helper()
	source, err := kafka.NewSource(v, kafka.Deps{Pipeline: "orders-for-payments", DatabaseID: database})
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
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// plain is a client of the test's own.
func plain(t testing.TB, brokers string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(brokers, ",")...)}, options...)...)
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	t.Cleanup(client.CloseAllowingRebalance)
	return client
}

// stored reads whole topics, as a reader of committed events sees them.
func stored(t testing.TB, brokers string, topics ...string) []message.Envelope {
	t.Helper()
	return read(t, brokers, topics, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
}

func read(t testing.TB, brokers string, topics []string, options ...kgo.Opt) []message.Envelope {
	t.Helper()
	ctx := background(t)
	admin := kadm.NewClient(plain(t, brokers))
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		if strings.Contains(err.Error(), "UNKNOWN_TOPIC") {
			return nil
		}
		t.Fatalf("look where %v end: %v", topics, err)
	}
	places := map[string]map[int32]kgo.Offset{}
	left := map[string]map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			if places[o.Topic] == nil {
				places[o.Topic], left[o.Topic] = map[int32]kgo.Offset{}, map[int32]int64{}
			}
			places[o.Topic][o.Partition] = kgo.NewOffset().AtStart()
			left[o.Topic][o.Partition] = o.Offset
		}
	})
	// Control records are kept to see where a partition ends.
	reader := plain(t, brokers, append(options, kgo.ConsumePartitions(places), kgo.KeepControlRecords())...)
	var all []message.Envelope
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %v: %v", topics, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Topic][r.Partition] {
				delete(left[r.Topic], r.Partition)
				if len(left[r.Topic]) == 0 {
					delete(left, r.Topic)
				}
			}
			if r.Attrs.IsControl() {
				return
			}
			e := message.Envelope{Destination: r.Topic, Key: string(r.Key), Body: r.Value}
			for _, h := range r.Headers {
				e.Headers = append(e.Headers, message.Header{Name: h.Key, Value: string(h.Value)})
			}
			all = append(all, e)
		})
	}
	return all
}

// publish stores envelopes as anybody's client would.
func publish(t testing.TB, client *kgo.Client, envelopes []message.Envelope) {
	t.Helper()
	records := make([]*kgo.Record, len(envelopes))
	for i := range envelopes {
		e := &envelopes[i]
		records[i] = &kgo.Record{Topic: e.Destination, Value: e.Body}
		if e.Key != "" {
			records[i].Key = []byte(e.Key)
		}
		for _, h := range e.Headers {
			records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)})
		}
	}
	if err := client.ProduceSync(background(t), records...).FirstErr(); err != nil {
		t.Fatalf("publish: %v", err)
	}
}
