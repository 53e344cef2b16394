package kafka_test

import (
	"context"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// Three brokers, of which one is killed: a topic that needs two goes on, one
// that needs all three waits, says so, and goes on when the broker is back.
func TestAClusterLosesABroker(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, kafkatest.Options{Brokers: 3})
	ctx := background(t)
	config := values{"brokers": c.Brokers(), "replication_factor": 3, "partitions": 3}
	two := newSink(t, config.with(values{"topic_template": "two", "min_insync_replicas": 2}))
	three := newSink(t, config.with(values{"topic_template": "three", "min_insync_replicas": 3}))
	one := newSink(t, config.with(values{"topic_template": "one", "min_insync_replicas": 1}))
	open(ctx, t, two)
	open(ctx, t, three)
	open(ctx, t, one)
	if remark := one.Remark(); !strings.Contains(remark, "min.insync.replicas 1") {
		t.Errorf("the sink says nothing of a single replica: %q", remark)
	}
	if remark := two.Remark(); remark != "" {
		t.Errorf("the sink doubts two replicas: %q", remark)
	}
	ofTwo, ofThree := sinktest.Envelopes("two", 1, 300), sinktest.Envelopes("three", 1, 300)
	for _, s := range []struct {
		sink sender
		all  []message.Envelope
	}{{two, ofTwo}, {three, ofThree}} {
		if err := send(ctx, s.sink, s.all[:100]...); err != nil {
			t.Fatal(err)
		}
	}
	c.Nodes[2].Kill()
	resend(ctx, t, two, ofTwo[100:])
	// The cluster notices in its own time that the replicas are two.
	var reason error
	for reason == nil || !strings.Contains(reason.Error(), "min.insync.replicas") {
		if err := ctx.Err(); err != nil {
			t.Fatalf("the reason is never named; the last was: %v", reason)
		}
		if err := three.Open(ctx); err != nil {
			reason = err
			continue
		}
		if reason = send(ctx, three, ofThree[100:110]...); reason == nil {
			continue // not noticed yet
		}
	}
	wantError(t, reason, delivery.VerdictRetry, "of topic three", "in-sync replicas", "min.insync.replicas")
	c.Revive(t, 2)
	resend(ctx, t, three, ofThree[100:])
	for topic, all := range map[string][]message.Envelope{"two": ofTwo, "three": ofThree} {
		checkOrderByKey(t, stored(t, c.Brokers(), topic), all)
	}
}

type session interface {
	opener
	sender
}

// resend opens and sends until it works, as the engine does.
func resend(ctx context.Context, t *testing.T, sink session, envelopes []message.Envelope) {
	t.Helper()
	var last error
	for {
		if ctx.Err() != nil {
			t.Fatalf("resent in vain: %v", last)
		}
		if last = sink.Open(ctx); last == nil {
			if last = send(ctx, sink, envelopes...); last == nil {
				return
			}
		}
	}
}

// checkOrderByKey asserts that all is there, and first came in order by key.
func checkOrderByKey(t *testing.T, got, want []message.Envelope) {
	t.Helper()
	byKey := func(all []message.Envelope) map[string]string {
		seen, keys := map[string]bool{}, map[string]string{}
		for i := range all {
			if body := string(all[i].Body); !seen[body] {
				seen[body] = true
				keys[all[i].Key] += body
			}
		}
		return keys
	}
	gotKeys := byKey(got)
	for key, bodies := range byKey(want) {
		if gotKeys[key] != bodies {
			t.Errorf("key %s has\n%s\nwant\n%s", key, gotKeys[key], bodies)
		}
	}
}
