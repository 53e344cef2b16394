package nats_test

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/testkit/sourcetest"
)

func TestSinkConformance(t *testing.T) { checkSink(t, "", nil) }

func TestAtomicSinkConformance(t *testing.T) { checkSink(t, "atomic", values{"atomic": true}) }

func checkSink(t *testing.T, variant string, more values) {
	t.Helper()
	t.Parallel()
	features := sinktest.Features{Technology: "nats", Variant: variant, DropsDuplicates: true, MaxBytes: 64 << 10, Headers: true, EventIDs: true}
	sinktest.Run(t, features, func(t *testing.T) sinktest.Harness {
		server := natstest.Start(t, natstest.Options{MaxPayload: 64 << 10})
		js := server.JetStream(t)
		return sinktest.Harness{
			New: func(t testing.TB) relay.Sink {
				return newSink(t, values{"url": server.URL(), "subject_template": "events.orders.{op}"}.with(more))
			},
			Stored:      func(t testing.TB) []message.Envelope { return stored(t, js, "tide-events") },
			Restart:     server.Restart,
			Destination: "events.orders.insert",
		}
	})
}

func TestSourceConformance(t *testing.T) {
	t.Parallel()
	features := sourcetest.Features{Technology: "nats", Headers: true, MessageIDs: true}
	sourcetest.Run(t, features, func(t *testing.T) sourcetest.Harness {
		server, js := start(t)
		config := values{"url": server.URL(), "subject": "events.orders.>", "durable_name": "payments"}
		open(background(t), t, newSink(t, values{"url": server.URL(), "subject_template": "events.orders.{op}"}))
		return sourcetest.Harness{
			New:         func(t testing.TB) relay.Source { return newSource(t, config, "db-1") },
			Publish:     func(t testing.TB, envelopes []message.Envelope) { publish(t, js, envelopes) },
			Crash:       func(t testing.TB, source relay.Source) { nats.Crash(source.(*nats.Source)) },
			Restart:     server.Restart,
			Destination: "events.orders.insert",
		}
	})
}
