package kafka_test

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/testkit/sourcetest"
)

// fake is a broker in the test's memory, for faults that a real one has only
// on bad days.
type fake struct {
	*kfake.Cluster
	options []kfake.Opt
}

func startFake(t testing.TB, options ...kfake.Opt) *fake {
	t.Helper()
	f := &fake{options: append([]kfake.Opt{kfake.NumBrokers(1), kfake.DefaultNumPartitions(1), kfake.DataDir(t.TempDir())}, options...)}
	f.run(t)
	t.Cleanup(func() { f.Close() })
	_, port, err := net.SplitHostPort(f.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	f.options = append(f.options, kfake.Ports(number))
	return f
}

func (f *fake) run(t testing.TB) {
	t.Helper()
	cluster, err := kfake.NewCluster(f.options...)
	if err != nil {
		t.Fatalf("start a fake cluster: %v", err)
	}
	f.Cluster = cluster
}

func (f *fake) brokers() string { return strings.Join(f.ListenAddrs(), ",") }

func (f *fake) restart(t testing.TB) {
	t.Helper()
	f.Close()
	f.run(t)
}

func TestSinkConformanceAgainstAFake(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]values{"idempotent": nil, "transactional": {"transactional": true}, "leader": {"acks": "leader"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			features := sinktest.Features{MaxBytes: 64 << 10, Headers: true}
			sinktest.Run(t, features, func(t *testing.T) sinktest.Harness {
				f := startFake(t)
				f.create(t, "events.orders.insert", 1, map[string]string{"max.message.bytes": "65536"})
				config := values{"brokers": f.brokers(), "topic_template": "events.orders.{op}"}.with(more)
				return sinktest.Harness{
					New:         func(t testing.TB) relay.Sink { return newSink(t, config) },
					Stored:      func(t testing.TB) []message.Envelope { return stored(t, f.brokers(), "events.orders.insert") },
					Restart:     f.restart,
					Destination: "events.orders.insert",
				}
			})
		})
	}
}

func TestSourceConformanceAgainstAFake(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, sourcetest.Features{Headers: true}, func(t *testing.T) sourcetest.Harness {
		f := startFake(t)
		config := values{"brokers": f.brokers(), "topic": "events.orders.insert", "group_id": "payments"}
		open(background(t), t, newSink(t, values{"brokers": f.brokers(), "topic_template": "events.orders.insert"}))
		client := plain(t, f.brokers(), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		return sourcetest.Harness{
			New:         func(t testing.TB) relay.Source { return newSource(t, config, "db-1") },
			Publish:     func(t testing.TB, envelopes []message.Envelope) { publish(t, client, envelopes) },
			Crash:       func(t testing.TB, source relay.Source) { kafka.Crash(source.(*kafka.Source)) },
			Restart:     f.restart,
			Destination: "events.orders.insert",
		}
	})
}

func (f *fake) create(t testing.TB, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	if err := f.CreateTopic(topic, partitions, configs); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}
