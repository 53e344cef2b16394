package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// committed is how far a group has committed, over all partitions.
func committed(t testing.TB, brokers, group, topic string) (total int64) {
	t.Helper()
	offsets, err := kadm.NewClient(plain(t, brokers)).FetchOffsetsForTopics(background(t), group, topic)
	if err != nil {
		t.Fatalf("look what group %s has committed: %v", group, err)
	}
	offsets.Each(func(o kadm.OffsetResponse) { total += max(0, o.At) })
	return total
}

// fetching fetches in the background until ctx ends.
func fetching(ctx context.Context, source *kafka.Source, into chan<- message.Delivery) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			delivered, err := source.Fetch(ctx, 1000)
			if err != nil {
				return
			}
			into <- delivered
		}
	}()
	return done
}

// Two databases share a group. The second joins while messages of the first are
// being inserted: a partition moves when they are committed, and not before.
func TestAPartitionMovesOnlyWhenWhatIsInFlightIsCommitted(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.create(t, "t", 6, nil)
	ctx, cancel := context.WithCancel(background(t))
	config := values{"brokers": f.brokers(), "topic": "t", "group_id": "g"}
	all := sinktest.Envelopes("t", 1, 300)
	client := plain(t, f.brokers(), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	publish(t, client, all)

	first, second := newSource(t, config, "db-1"), newSource(t, config, "db-2")
	open(ctx, t, first)
	var held []message.Delivery
	seen := map[string]int{}
	for got := 0; got < len(all); {
		delivered, err := first.Fetch(ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, delivered)
		got += len(delivered.Envelopes)
		for i := range delivered.Envelopes {
			seen[string(delivered.Envelopes[i].Body)]++
		}
	}
	firsts, seconds := make(chan message.Delivery, 100), make(chan message.Delivery, 100)
	open(ctx, t, second)
	firstDone, secondDone := fetching(ctx, first, firsts), fetching(ctx, second, seconds)
	if _, err := f.WaitGroupInfo(ctx, "g", func(info *kfake.GroupInfo) bool { return len(info.Members) == 2 }); err != nil {
		t.Fatalf("the second never joined: %v", err)
	}
	if n := committed(t, f.brokers(), "g", "t"); n != 0 {
		t.Fatalf("%d messages are committed, and none is inserted", n)
	}
	select {
	case d := <-seconds:
		t.Fatalf("%d messages went to the second while the first was inserting them", len(d.Envelopes))
	default:
	}
	for _, d := range held {
		if err := d.Acknowledge(ctx); err != nil {
			t.Fatalf("acknowledge: %v", err)
		}
	}
	if n := committed(t, f.brokers(), "g", "t"); n != int64(len(all)) {
		t.Errorf("%d messages are committed, want %d", n, len(all))
	}
	more := sinktest.Envelopes("t", 301, 300)
	publish(t, client, more)
	both := map[string]int{}
	for len(seen) < 600 {
		var d message.Delivery
		select {
		case d = <-firsts:
			both["first"] += len(d.Envelopes)
		case d = <-seconds:
			both["second"] += len(d.Envelopes)
		case <-ctx.Done():
			t.Fatalf("read %d of 600", len(seen))
		}
		for i := range d.Envelopes {
			seen[string(d.Envelopes[i].Body)]++
		}
		if err := d.Acknowledge(ctx); err != nil {
			t.Fatalf("acknowledge: %v", err)
		}
	}
	for body, n := range seen {
		if n != 1 {
			t.Errorf("%s was read %d times", body, n)
		}
	}
	cancel()
	<-firstDone
	<-secondDone
}

// The inbox of the first database takes longer than the group waits: its
// partition is read again by the second, and what the first then acknowledges
// must not take back, or go beyond, what the second has committed.
func TestWhatIsAcknowledgedTooLateIsNotCommitted(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.create(t, "t", 2, nil)
	ctx, cancel := context.WithCancel(background(t))
	config := values{"brokers": f.brokers(), "topic": "t", "group_id": "g"}
	all := sinktest.Envelopes("t", 1, 100)
	publish(t, plain(t, f.brokers(), kgo.RecordPartitioner(kgo.RoundRobinPartitioner())), all)
	first, second := newSource(t, config, "db-1"), newSource(t, config, "db-2")
	kafka.WaitAtMost(first, time.Millisecond)
	open(ctx, t, first)
	var held []message.Delivery
	for got := 0; got < len(all); {
		d, err := first.Fetch(ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, d)
		got += len(d.Envelopes)
	}
	open(ctx, t, second)
	firsts, seconds := make(chan message.Delivery, 100), make(chan message.Delivery, 100)
	firstDone, secondDone := fetching(ctx, first, firsts), fetching(ctx, second, seconds)
	select {
	case d := <-seconds: // it began where nothing was committed
		if len(d.Envelopes) == 0 {
			t.Error("an empty delivery")
		}
	case <-ctx.Done():
		t.Fatal("the second never got a partition")
	}
	for _, d := range held {
		if err := d.Acknowledge(ctx); err != nil {
			t.Fatalf("acknowledge: %v", err)
		}
	}
	if n := committed(t, f.brokers(), "g", "t"); n != 50 {
		t.Errorf("%d messages are committed, want the 50 of the partition that the first has kept", n)
	}
	cancel()
	<-firstDone
	<-secondDone
}

// The owner of a pipeline hangs, and another relay of the same database takes
// over: it reads at once what was not committed, and the first commits nothing.
func TestWhoTakesOverAPipelineFencesTheOwnerBefore(t *testing.T) {
	t.Parallel()
	c, topic := brokers.Get(t), topicOf(t)
	makeTopic(t, c.Brokers(), topic, 3, nil)
	ctx := background(t)
	config := values{"brokers": c.Brokers(), "topic": topic, "group_id": topic}
	all := sinktest.Envelopes(topic, 1, 90)
	publish(t, plain(t, c.Brokers()), all)
	before, after := newSource(t, config, "db-1"), newSource(t, config, "db-1")
	open(ctx, t, before)
	old, err := before.Fetch(ctx, 1000)
	if err != nil {
		t.Fatal(err)
	}
	open(ctx, t, after)
	seen := map[string]bool{}
	var held []message.Delivery
	for len(seen) < len(all) {
		d, err := after.Fetch(ctx, 1000)
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(seen), len(all), err)
		}
		held = append(held, d)
		for i := range d.Envelopes {
			seen[string(d.Envelopes[i].Body)] = true
		}
	}
	// An error when the brokers tell it, none when it knows and has nothing left to commit.
	refused := old.Acknowledge(ctx)
	if n := committed(t, c.Brokers(), topic, topic); n != 0 {
		t.Errorf("%d messages are committed that nobody has inserted (%v)", n, refused)
	}
	for _, d := range held {
		if err := d.Acknowledge(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := committed(t, c.Brokers(), topic, topic); n != int64(len(all)) {
		t.Errorf("%d messages are committed, want %d", n, len(all))
	}
}

func TestANewGroupStartsWhereItIsToldAndStaysThere(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.create(t, "t", 2, nil)
	ctx := background(t)
	client := plain(t, f.brokers())
	all := sinktest.Envelopes("t", 1, 20)
	publish(t, client, all[:10])
	config := values{"brokers": f.brokers(), "topic": "t", "group_id": "late", "start_offset": "latest"}
	source := newSource(t, config, "db-1")
	if err := source.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := source.Close(ctx); err != nil {
		t.Fatal(err)
	}
	// Nothing was read. What comes while nobody reads is behind the start.
	publish(t, client, all[10:])
	again := newSource(t, config, "db-1")
	open(ctx, t, again)
	seen := map[string]bool{}
	for len(seen) < 10 {
		d, err := again.Fetch(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		for i := range d.Envelopes {
			seen[string(d.Envelopes[i].Body)] = true
		}
	}
	for i := range all {
		if body := string(all[i].Body); seen[body] != (i >= 10) {
			t.Errorf("%s was read: %t", body, seen[body])
		}
	}
}

// A member is dead, and the group waits for it before it lets another in.
// Whoever stands there when its relay is stopped must not wait as well.
func TestASourceThatWaitsForItsGroupClosesAtOnce(t *testing.T) {
	t.Parallel()
	c, topic := brokers.Get(t), topicOf(t)
	makeTopic(t, c.Brokers(), topic, 1, nil)
	ctx := background(t)
	config := values{"brokers": c.Brokers(), "topic": topic, "group_id": topic}
	publish(t, plain(t, c.Brokers()), sinktest.Envelopes(topic, 1, 1))
	dead, waiting := newSource(t, config, "db-1"), newSource(t, config, "db-2")
	open(ctx, t, dead)
	if _, err := dead.Fetch(ctx, 1); err != nil {
		t.Fatal(err)
	}
	kafka.Crash(dead)
	if err := waiting.Open(ctx); err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(plain(t, c.Brokers()))
	kafkatest.Eventually(t, "the group waits for its dead member", func() bool {
		groups, err := admin.DescribeGroups(ctx, topic)
		return err == nil && groups[topic].State == "PreparingRebalance"
	})
	closed := make(chan error, 1)
	go func() { closed <- waiting.Close(ctx) }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second): // the group waits for 45
		t.Error("it waits with its group")
		<-closed
	}
}
