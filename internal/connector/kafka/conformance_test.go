package kafka_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/testkit/sourcetest"
)

// farEnd is the shared broker, or one of its own for a case that restarts it.
func farEnd(t *testing.T) *kafkatest.Cluster {
	t.Helper()
	if strings.Contains(t.Name(), "restart") {
		return kafkatest.Start(t, kafkatest.Options{})
	}
	return brokers.Get(t)
}

func restart(c *kafkatest.Cluster) func(t testing.TB) {
	return func(t testing.TB) {
		t.Helper()
		for _, n := range c.Nodes {
			n.Kill()
		}
		c.Restart(t)
	}
}

func makeTopic(t testing.TB, addresses, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	all := map[string]*string{}
	for key, value := range configs {
		all[key] = kadm.StringPtr(value)
	}
	if _, err := kadm.NewClient(plain(t, addresses)).CreateTopic(background(t), partitions, -1, all, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

func TestSinkConformance(t *testing.T) {
	t.Parallel()
	checkSink(t, sinktest.Features{MaxBytes: 64 << 10, Headers: true}, values{"compression": "zstd"})
}

func TestTransactionalSinkConformance(t *testing.T) {
	t.Parallel()
	checkSink(t, sinktest.Features{MaxBytes: 64 << 10, Headers: true}, values{"transactional": true})
}

func checkSink(t *testing.T, features sinktest.Features, more values) {
	t.Helper()
	sinktest.Run(t, features, func(t *testing.T) sinktest.Harness {
		c, topic := farEnd(t), topicOf(t)
		makeTopic(t, c.Brokers(), topic, 1, map[string]string{"max.message.bytes": "65536"})
		config := values{"brokers": c.Brokers(), "topic_template": topic}.with(more)
		if config.Bool("transactional") {
			config["transactional_id"] = topic
		}
		return sinktest.Harness{
			New:         func(t testing.TB) relay.Sink { return newSink(t, config) },
			Stored:      func(t testing.TB) []message.Envelope { return stored(t, c.Brokers(), topic) },
			Restart:     restart(c),
			Destination: topic,
		}
	})
}

func TestSourceConformance(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, sourcetest.Features{Headers: true}, func(t *testing.T) sourcetest.Harness {
		c, topic := farEnd(t), topicOf(t)
		makeTopic(t, c.Brokers(), topic, 1, nil)
		config := values{"brokers": c.Brokers(), "topic": topic, "group_id": topic}
		client := plain(t, c.Brokers(), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		return sourcetest.Harness{
			New:         func(t testing.TB) relay.Source { return newSource(t, config, "db-1") },
			Publish:     func(t testing.TB, envelopes []message.Envelope) { publish(t, client, envelopes) },
			Crash:       func(t testing.TB, source relay.Source) { kafka.Crash(source.(*kafka.Source)) },
			Restart:     restart(c),
			Destination: topic,
		}
	})
}
