package kafka_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// marked sends some events and returns the sink's mark.
func marked(ctx context.Context, t *testing.T, sink *kafka.Sink, first, n int) string {
	t.Helper()
	if err := send(ctx, sink, sinktest.Envelopes("t", first, n)...); err != nil {
		t.Fatal(err)
	}
	mark := sink.Mark()
	if mark == "" {
		t.Fatal("no mark after an acknowledgement")
	}
	return mark
}

func prove(ctx context.Context, t *testing.T, sink *kafka.Sink, mark string) delivery.Proof {
	t.Helper()
	if err := sink.Open(ctx); err != nil {
		t.Fatal(err)
	}
	proof, err := sink.Prove(ctx, mark)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func TestTellsWhenATopicLostWhatItHadAcknowledged(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.create(t, "t", 3, nil)
	ctx := background(t)
	sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t"})
	open(ctx, t, sink)
	early := marked(ctx, t, sink, 1, 30)
	late := marked(ctx, t, sink, 31, 30)
	if early == late {
		t.Fatal("the mark does not grow")
	}
	if proof := prove(ctx, t, sink, late); !proof.Holds || proof.Lost != "" {
		t.Fatalf("the topic has everything, and the proof is %+v", proof)
	}
	// What a session proved, its own marks build upon.
	if again := marked(ctx, t, sink, 61, 1); strings.Count(again, ":") != strings.Count(late, ":") {
		t.Errorf("the mark %s forgot places of %s", again, late)
	}
	if proof := prove(ctx, t, sink, `[{"stream":"ORDERS","sequence":7}]`); proof != (delivery.Proof{}) {
		t.Errorf("another sink's mark proves %+v", proof)
	}
	if err := f.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	f.create(t, "t", 3, nil)
	if proof := prove(ctx, t, sink, late); proof.Holds || !strings.Contains(proof.Lost, "deleted and made again") {
		t.Errorf("the topic was made again, and the proof is %+v", proof)
	}
	// A partition that ends early: the mark of more than the topic has.
	fresh := marked(ctx, t, sink, 1, 9)
	claimed := strings.Replace(fresh, `"0":`, `"0":1000`, 1)
	if proof := prove(ctx, t, sink, claimed); proof.Holds || !strings.Contains(proof.Lost, "partition 0 of topic t lost its end") {
		t.Errorf("a partition ends early, and the proof is %+v", proof)
	}
}

// Records that a relay of another make writes have no ids of ours.
func TestAStrangersRecordIsKnownByTopicPartitionAndOffset(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.create(t, "t", 1, nil)
	ctx := background(t)
	client := plain(t, f.brokers())
	config := values{"brokers": f.brokers(), "topic": "t", "group_id": "g"}
	coordinates := func(group string) string {
		t.Helper()
		source := newSource(t, config.with(values{"group_id": group}), "db-1")
		open(ctx, t, source)
		d, err := source.Fetch(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		e := &d.Envelopes[0]
		if e.Key != "00ff" {
			t.Errorf("the key is %q", e.Key)
		}
		return e.Coordinates
	}
	write := func() {
		t.Helper()
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: []byte{0, 0xff}, Value: []byte(`{"n":1}`)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write()
	first, again := coordinates("g1"), coordinates("g2")
	if first != again || !strings.HasPrefix(first, "kafka:t:0/0#") {
		t.Errorf("the same record has the coordinates %q and %q", first, again)
	}
	if err := f.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	f.create(t, "t", 1, nil)
	client = plain(t, f.brokers())
	write()
	if other := coordinates("g3"); other == first {
		t.Errorf("a record of another topic of the same name has the coordinates %q as well", other)
	}
}
