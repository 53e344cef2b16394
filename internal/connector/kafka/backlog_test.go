package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// askingSource is one that asks for its backlog more often than in production.
func askingSource(t testing.TB, v values, database string) *kafka.Source {
	t.Helper()
	source := newSource(t, v, database)
	kafka.MeasureEvery(source, 20*time.Millisecond)
	return source
}

func leftOf(source *kafka.Source) string {
	n, known := source.Backlog()
	if !known {
		return "unknown"
	}
	return fmt.Sprint(n)
}

// awaitLeft waits for the answer to a question that is asked in the background.
func awaitLeft(t testing.TB, source *kafka.Source, want int) {
	t.Helper()
	got := ""
	defer func() {
		if t.Failed() {
			t.Logf("the backlog is %s, want %d", got, want)
		}
	}()
	kafkatest.Eventually(t, fmt.Sprintf("a backlog of %d", want), func() bool {
		got = leftOf(source)
		return got == fmt.Sprint(want)
	})
}

func wantLeft(t testing.TB, source *kafka.Source, want int) {
	t.Helper()
	if got := leftOf(source); got != fmt.Sprint(want) {
		t.Errorf("the backlog is %s, want %d", got, want)
	}
}

func fetchSome(ctx context.Context, t testing.TB, source *kafka.Source, limit int) message.Delivery {
	t.Helper()
	d, err := source.Fetch(ctx, limit)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	return d
}

func acknowledged(ctx context.Context, t testing.TB, d message.Delivery) {
	t.Helper()
	if err := d.Acknowledge(ctx); err != nil {
		t.Fatalf("acknowledge: %v", err)
	}
}

// Whoever is stuck hears of nothing new by fetching.
func TestTheBacklogGrowsWhileNothingIsFetchedAndEndsWithTheLastAcknowledgement(t *testing.T) {
	t.Parallel()
	c, topic := brokers.Get(t), topicOf(t)
	makeTopic(t, c.Brokers(), topic, 4, nil)
	ctx := background(t)
	client := plain(t, c.Brokers(), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	all := sinktest.Envelopes(topic, 1, 300)
	publish(t, client, all[:90])
	config := values{"brokers": c.Brokers(), "topic": topic, "group_id": topic}
	source := askingSource(t, config, "db-1")
	if got := leftOf(source); got != "unknown" {
		t.Errorf("before it was opened the backlog is %s", got)
	}
	open(ctx, t, source)
	awaitLeft(t, source, 90) // nothing was ever committed or fetched

	held := fetchSome(ctx, t, source, 7)
	wantLeft(t, source, 90)
	publish(t, client, all[90:250])
	awaitLeft(t, source, 250)
	second := fetchSome(ctx, t, source, 7) // of the same partition
	acknowledged(ctx, t, held)
	left := 250 - len(held.Envelopes)
	wantLeft(t, source, left)
	acknowledged(ctx, t, second)
	left -= len(second.Envelopes)
	wantLeft(t, source, left)
	for left > 0 {
		d := fetchSome(ctx, t, source, 30)
		acknowledged(ctx, t, d)
		left -= len(d.Envelopes)
	}
	wantLeft(t, source, 0)

	// What comes while nobody reads is known with the next session.
	if err := source.Close(ctx); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, source, 0)
	publish(t, client, all[250:])
	open(ctx, t, source)
	awaitLeft(t, source, 50)
}

// Behind the last message of a transaction stands a marker, which nobody
// acknowledges, and behind that perhaps a whole transaction that was aborted.
func TestTransactionsLeaveNoBacklogBehind(t *testing.T) {
	t.Parallel()
	c, topic := brokers.Get(t), topicOf(t)
	makeTopic(t, c.Brokers(), topic, 3, nil)
	ctx := background(t)
	sink := newSink(t, values{"brokers": c.Brokers(), "topic_template": topic, "transactional": true, "transactional_id": topic})
	open(ctx, t, sink)
	if err := send(ctx, sink, transactions(topic, 1, 4)...); err != nil {
		t.Fatal(err)
	}
	config := values{"brokers": c.Brokers(), "topic": topic, "group_id": topic}
	source := askingSource(t, config, "db-1")
	open(ctx, t, source)
	for got := 0; got < 4*ofTransaction; {
		d := fetchSome(ctx, t, source, 100)
		acknowledged(ctx, t, d)
		got += len(d.Envelopes)
	}
	readToTheEnd(ctx, t, source)
	abort(t, c.Brokers(), topic)
	again := askingSource(t, config, "db-1")
	open(ctx, t, again)
	readToTheEnd(ctx, t, again)
}

// readToTheEnd reads on where no message is left.
func readToTheEnd(ctx context.Context, t testing.TB, source *kafka.Source) {
	t.Helper()
	reading, cancel := context.WithCancel(ctx)
	done := fetching(reading, source, make(chan message.Delivery, 10))
	awaitLeft(t, source, 0)
	cancel()
	<-done
}

// abort sends some messages in a transaction, and takes them back.
func abort(t testing.TB, brokers, topic string) {
	t.Helper()
	ctx := background(t)
	client := plain(t, brokers, kgo.TransactionalID(topic+"-aborted"))
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	publish(t, client, sinktest.Envelopes(topic, 1000, 9))
	if err := client.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}

// Two databases share a group: each has the backlog of its own partitions.
func TestPartitionsThatGoTakeTheirBacklogAlong(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.create(t, "t", 4, nil)
	ctx := background(t)
	publish(t, plain(t, f.brokers(), kgo.RecordPartitioner(kgo.RoundRobinPartitioner())), sinktest.Envelopes("t", 1, 100))
	config := values{"brokers": f.brokers(), "topic": "t", "group_id": "g"}
	first, second := askingSource(t, config, "db-1"), askingSource(t, config, "db-2")
	open(ctx, t, first)
	awaitLeft(t, first, 100)
	open(ctx, t, second)
	if _, err := f.WaitGroupInfo(ctx, "g", func(info *kfake.GroupInfo) bool { return len(info.Members) == 2 }); err != nil {
		t.Fatalf("the second never joined: %v", err)
	}
	awaitLeft(t, first, 50)
	awaitLeft(t, second, 50)
}
