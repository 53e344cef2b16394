package nats_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func TestAMessageNotAcknowledgedInTimeComesAgainInTheSameSession(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 3)
	source := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "d", "ack_wait_secs": 1}), "db-1")
	open(background(t), t, source)
	for round := range 2 {
		for read := 0; read < len(all); {
			delivered := fetch(t, source, 10)
			for i := range delivered.Envelopes {
				if got := delivered.Envelopes[i].EventID; got != all[read].EventID {
					t.Fatalf("round %d: read %s, want %s", round, got, all[read].EventID)
				}
				read++
			}
		}
	}
}

func TestStopsAtMaxAckPendingAndGoesOn(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 50)
	source := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "d", "max_ack_pending": 4}), "db-1")
	open(background(t), t, source)
	for read := 0; read < len(all); {
		delivered := fetch(t, source, 100)
		if n := len(delivered.Envelopes); n > 4 {
			t.Fatalf("%d messages at once, max_ack_pending is 4", n)
		}
		read += len(delivered.Envelopes)
		acknowledge(t, delivered)
	}
}

func TestLargeMessagesFlowWhileTheReaderIsSlow(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Options{MaxPayload: 8 << 20})
	ctx := background(t)
	sink := newSink(t, sinkTo(server, "events.{op}", nil))
	open(ctx, t, sink)
	const total = 60
	body := strings.Repeat("x", 1<<20)
	for i := range total {
		batch := sinktest.Envelopes("events.insert", i, 1)
		batch[0].Body = fmt.Appendf(nil, "%04d%s", i, body)
		if err := send(ctx, sink, batch...); err != nil {
			t.Fatalf("send: %v", err)
		}
	}
	source := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "d"}), "db-1")
	open(ctx, t, source)
	for read := 0; read < total; {
		delivered := fetch(t, source, 500)
		for i := range delivered.Envelopes {
			if got := string(delivered.Envelopes[i].Body[:4]); got != fmt.Sprintf("%04d", read) {
				t.Fatalf("read %s, want %04d", got, read)
			}
			read++
		}
		acknowledge(t, delivered)
	}
}

// A reader that takes nothing for a while gets status messages beside a
// nearly full batch; none of them may push a message out.
func TestAFullPrefetchLosesNothing(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 3)
	source := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "d"}), "db-1")
	open(background(t), t, source)
	first := fetch(t, source, 2)
	more := sinktest.Envelopes("events.insert", 4, 2000)
	publish(t, js, more)
	acknowledge(t, first)
	for read := len(first.Envelopes); read < len(all)+len(more); {
		delivered := fetch(t, source, 2)
		acknowledge(t, delivered)
		read += len(delivered.Envelopes)
	}
}
