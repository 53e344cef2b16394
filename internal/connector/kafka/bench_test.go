package kafka_test

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// Four sends outstanding, as the engine has at least; the broker is a process
// of its own.
func BenchmarkSend(b *testing.B) {
	for name, more := range map[string]values{"idempotent": nil, "transactional": {"transactional": true}} {
		b.Run(name, func(b *testing.B) {
			c, topic := brokers.Get(b), topicOf(b)
			sink := newSink(b, values{"brokers": c.Brokers(), "topic_template": topic, "partitions": 3}.with(more))
			ctx := b.Context()
			open(ctx, b, sink)
			all := sinktest.Envelopes(topic, 1, b.N)
			b.ResetTimer()
			var outstanding []delivery.Receipt
			wait := func(keep int) {
				for len(outstanding) > keep {
					if err := outstanding[0].Wait(ctx); err != nil {
						b.Fatalf("wait: %v", err)
					}
					outstanding = outstanding[1:]
				}
			}
			for sent := 0; sent < b.N; {
				next := min(sent+500, b.N)
				receipt, err := sink.Send(ctx, all[sent:next])
				if err != nil {
					b.Fatalf("send: %v", err)
				}
				outstanding = append(outstanding, receipt)
				sent = next
				wait(3)
			}
			wait(0)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	c, topic := brokers.Get(b), topicOf(b)
	ctx := b.Context()
	sink := newSink(b, values{"brokers": c.Brokers(), "topic_template": topic, "partitions": 3})
	open(ctx, b, sink)
	all := sinktest.Envelopes(topic, 1, b.N)
	for sent := 0; sent < b.N; sent += 500 {
		if err := send(ctx, sink, all[sent:min(sent+500, b.N)]...); err != nil {
			b.Fatalf("send: %v", err)
		}
	}
	source := newSource(b, values{"brokers": c.Brokers(), "topic": topic, "group_id": topic}, "db-1")
	open(ctx, b, source)
	b.ResetTimer()
	for read := 0; read < b.N; {
		delivered, err := source.Fetch(ctx, 500)
		if err != nil {
			b.Fatalf("fetch: %v", err)
		}
		if err := delivered.Acknowledge(ctx); err != nil {
			b.Fatalf("acknowledge: %v", err)
		}
		read += len(delivered.Envelopes)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
