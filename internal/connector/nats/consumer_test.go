package nats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func consumerInfo(t testing.TB, js jetstream.JetStream, stream, name string) *jetstream.ConsumerInfo {
	t.Helper()
	consumer, err := js.Consumer(background(t), stream, name)
	if err != nil {
		t.Fatalf("look up consumer %s: %v", name, err)
	}
	return consumer.CachedInfo()
}

func fetch(t testing.TB, source relay.Source, limit int) message.Delivery {
	t.Helper()
	delivered, err := source.Fetch(background(t), limit)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	return delivered
}

func acknowledge(t testing.TB, delivered message.Delivery) {
	t.Helper()
	if err := delivered.Acknowledge(background(t)); err != nil {
		t.Fatalf("acknowledge: %v", err)
	}
}

func events(t testing.TB, js jetstream.JetStream, n int) []message.Envelope {
	t.Helper()
	addStream(t, js, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}})
	all := sinktest.Envelopes("events.insert", 1, n)
	publish(t, js, all)
	return all
}

func TestMakesADurableConsumerFromTheConfiguration(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	events(t, js, 0)
	ctx := background(t)
	open(ctx, t, newSource(t, sourceFrom(server, "events.>", values{"durable_name": "d", "consumer_group": "g", "ack_wait_secs": 7, "max_ack_pending": 70}), "db-1"))
	info := consumerInfo(t, js, "EVENTS", "d")
	if cfg := info.Config; cfg.AckWait != 7*time.Second || cfg.MaxAckPending != 70 || cfg.AckPolicy != jetstream.AckExplicitPolicy || cfg.MaxDeliver != -1 || cfg.FilterSubject != "events.>" {
		t.Errorf("the consumer ignores the configuration: %+v", cfg)
	}
	open(ctx, t, newSource(t, sourceFrom(server, "events.a,events.b", values{"consumer_group": "g"}), "db-1"))
	if cfg := consumerInfo(t, js, "EVENTS", "g").Config; len(cfg.FilterSubjects) != 2 || cfg.AckWait != 30*time.Second || cfg.MaxAckPending != 10_000 {
		t.Errorf("the consumer has other defaults: %+v", cfg)
	}
	open(ctx, t, newSource(t, sourceFrom(server, "events.>", nil), "db-1"))
	consumerInfo(t, js, "EVENTS", "tide-orders-for-payments-db-1")
}

func TestStartsWhereTheConfigurationSays(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 5)
	third := time.Now().Add(time.Hour).Format(time.RFC3339)
	for from, want := range map[string]int{"all": 1, "earliest": 1, "last": 5, "3": 3, "new": 6, "latest": 6, third: 0} {
		source := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "from-" + fmt.Sprint(len(from)+int(from[0])), "deliver_from": from}), "db-1")
		open(background(t), t, source)
		if want == 0 {
			continue // nothing for an hour; that it was taken is what counts
		}
		if want == 6 {
			all = append(all, sinktest.Envelopes("events.insert", len(all)+1, 1)...)
			publish(t, js, all[len(all)-1:])
			want = len(all)
		}
		if from == "last" {
			want = len(all)
		}
		if got := fetch(t, source, 1).Envelopes[0]; string(got.Body) != string(all[want-1].Body) {
			t.Errorf("from %s: read %s, want %s", from, got.Body, all[want-1].Body)
		}
	}
}

func TestNamesTheReasonWhyAConsumerDoesNotFit(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	events(t, js, 1)
	ctx := background(t)
	for i, c := range []struct {
		theirs jetstream.ConsumerConfig
		says   string
	}{
		{jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy}, "needs explicit"},
		{jetstream.ConsumerConfig{AckPolicy: jetstream.AckAllPolicy}, "needs explicit"},
		{jetstream.ConsumerConfig{FilterSubject: "events.other"}, "reads events.other, and the pipeline asks for events.>"},
		{jetstream.ConsumerConfig{MaxDeliver: 3}, "max_deliver"},
		{jetstream.ConsumerConfig{HeadersOnly: true}, "headers_only"},
	} {
		c.theirs.Durable = fmt.Sprint("theirs-", i)
		if _, err := js.CreateConsumer(ctx, "EVENTS", c.theirs); err != nil {
			t.Fatalf("create consumer %d: %v", i, err)
		}
		err := newSource(t, sourceFrom(server, "events.>", values{"durable_name": c.theirs.Durable}), "db-1").Open(ctx)
		wantError(t, err, delivery.VerdictMisconfigured, c.says, "choose another durable_name", "nats consumer rm EVENTS "+c.theirs.Durable)
	}
	if _, err := js.CreatePushConsumer(ctx, "EVENTS", jetstream.ConsumerConfig{Durable: "push", DeliverSubject: "somewhere"}); err != nil {
		t.Fatalf("create a push consumer: %v", err)
	}
	wantError(t, newSource(t, sourceFrom(server, "events.>", values{"durable_name": "push"}), "db-1").Open(ctx), delivery.VerdictMisconfigured, "pushes its messages")
}

func TestAdjustsWhatIsHarmlessInAConsumerOfOthers(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 1)
	ctx := background(t)
	theirs := jetstream.ConsumerConfig{Durable: "theirs", AckWait: time.Minute, MaxAckPending: 5, Metadata: map[string]string{"team": "red"}}
	if _, err := js.CreateConsumer(ctx, "EVENTS", theirs); err != nil {
		t.Fatalf("create consumer: %v", err)
	}
	source := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "theirs", "ack_wait_secs": 9}), "db-1")
	open(ctx, t, source)
	cfg := consumerInfo(t, js, "EVENTS", "theirs").Config
	if cfg.AckWait != 9*time.Second || cfg.MaxAckPending != 5 || cfg.Metadata["team"] != "red" {
		t.Errorf("adjusted to %+v", cfg)
	}
	if got := fetch(t, source, 10); string(got.Envelopes[0].Body) != string(all[0].Body) {
		t.Errorf("read %s", got.Envelopes[0].Body)
	}
}

func TestWorkQueueServesOneConsumerAndSaysSo(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	addStream(t, js, jetstream.StreamConfig{Name: "QUEUE", Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy})
	sink := newSink(t, sinkTo(server, "jobs.{op}", nil))
	open(ctx, t, sink)
	if err := send(ctx, sink, sinktest.Envelopes("jobs.x", 1, 2)...); err != nil {
		t.Fatalf("send: %v", err)
	}
	first := newSource(t, sourceFrom(server, "jobs.>", values{"durable_name": "one"}), "db-1")
	open(ctx, t, first)
	acknowledge(t, fetch(t, first, 1))
	wantError(t, newSource(t, sourceFrom(server, "jobs.>", values{"durable_name": "two"}), "db-2").Open(ctx),
		delivery.VerdictMisconfigured, "wrong retention", "share its durable_name")
	wantError(t, newSource(t, sourceFrom(server, "jobs.>", values{"durable_name": "three", "deliver_from": "new"}), "db-2").Open(ctx),
		delivery.VerdictMisconfigured, "set deliver_from to all")
}

func TestTwoDatabasesWithOneDurableNameSplitTheStream(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	const total = 200
	events(t, js, total)
	config := sourceFrom(server, "events.>", values{"durable_name": "shared", "ack_wait_secs": 1})
	one, two := newSource(t, config, "db-1"), newSource(t, config, "db-2")
	open(background(t), t, one)
	open(background(t), t, two)
	seen := map[string]int{}
	turn := map[*nats.Source]int{}
	for len(seen) < total {
		for _, source := range []*nats.Source{one, two} {
			if len(seen) == total {
				break
			}
			delivered := fetch(t, source, 5)
			acknowledge(t, delivered)
			for i := range delivered.Envelopes {
				seen[delivered.Envelopes[i].EventID]++
				turn[source]++
			}
		}
	}
	if turn[one] == 0 || turn[two] == 0 {
		t.Errorf("one got %d, the other %d", turn[one], turn[two])
	}
}

func TestWhatOneDatabaseHeldGoesToTheOtherAtOnce(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 10)
	// An ack_wait longer than the test: only handing back can help.
	config := sourceFrom(server, "events.>", values{"durable_name": "shared", "ack_wait_secs": 3600})
	one, two := newSource(t, config, "db-1"), newSource(t, config, "db-2")
	ctx := background(t)
	open(ctx, t, one)
	open(ctx, t, two)
	fetch(t, one, 10)
	natstest.Eventually(t, "all are delivered to one", func() bool {
		return consumerInfo(t, js, "EVENTS", "shared").NumAckPending == len(all)
	})
	if err := one.Close(ctx); err != nil {
		t.Fatalf("close: %v", err)
	}
	for read := 0; read < len(all); {
		delivered := fetch(t, two, 10)
		acknowledge(t, delivered)
		read += len(delivered.Envelopes)
	}
}

func TestSharedConsumerRedeliversBeforeAnythingLater(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 20)
	config := sourceFrom(server, "events.>", values{"durable_name": "shared", "ack_wait_secs": 1})
	ctx := background(t)
	other := newSource(t, config, "db-2")
	open(ctx, t, other)
	if err := other.Close(ctx); err != nil {
		t.Fatalf("close: %v", err)
	}
	source := newSource(t, config, "db-1")
	open(ctx, t, source)
	fetch(t, source, 10)
	nats.Crash(source)
	open(ctx, t, source)
	for read := 0; read < len(all); {
		delivered := fetch(t, source, 10)
		acknowledge(t, delivered)
		for i := range delivered.Envelopes {
			if string(delivered.Envelopes[i].Body) != string(all[read].Body) {
				t.Fatalf("read %s, want %s", delivered.Envelopes[i].Body, all[read].Body)
			}
			read++
		}
	}
}

func TestAGapInDeliveryNumbersEndsTheSession(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 10)
	ctx := background(t)
	source := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "alone"}), "db-1")
	open(ctx, t, source)
	for read := 0; read < len(all); {
		delivered := fetch(t, source, 10)
		acknowledge(t, delivered)
		read += len(delivered.Envelopes)
	}
	if err := source.Close(ctx); err != nil {
		t.Fatalf("close: %v", err)
	}
	all = append(all, sinktest.Envelopes("events.insert", len(all)+1, 10)...)
	publish(t, js, all[10:])
	open(ctx, t, source)
	// A stranger takes one in between and keeps it.
	consumer, err := js.Consumer(ctx, "EVENTS", "alone")
	if err != nil {
		t.Fatalf("look up the consumer: %v", err)
	}
	if _, err := consumer.Next(); err != nil {
		t.Fatalf("take one away: %v", err)
	}
	_, err = source.Fetch(ctx, 10)
	wantError(t, err, delivery.VerdictRetry, "somebody else reads through it")
	open(ctx, t, source)
	if got := fetch(t, source, 10).Envelopes[0]; string(got.Body) != string(all[10].Body) {
		t.Errorf("after starting over read %s, want %s", got.Body, all[10].Body)
	}
}

func TestADeletedConsumerOrStreamIsMadeAgain(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 3)
	ctx := background(t)
	source := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "d"}), "db-1")
	open(ctx, t, source)
	before := fetch(t, source, 3)
	if err := js.DeleteConsumer(ctx, "EVENTS", "d"); err != nil {
		t.Fatalf("delete: %v", err)
	}
	natstest.Eventually(t, "the source notices", func() bool { _, err := source.Fetch(ctx, 3); return err != nil })
	_, err := source.Fetch(ctx, 3)
	wantError(t, err, delivery.VerdictRetry, "consumer d of stream EVENTS was deleted")
	open(ctx, t, source)
	acknowledge(t, fetch(t, source, 3))

	if err := js.DeleteStream(ctx, "EVENTS"); err != nil {
		t.Fatalf("delete: %v", err)
	}
	natstest.Eventually(t, "the source notices", func() bool { _, err := source.Fetch(ctx, 3); return err != nil })
	addStream(t, js, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}})
	publish(t, js, all)
	open(ctx, t, source)
	after := fetch(t, source, 3)
	if before.Envelopes[0].Coordinates == after.Envelopes[0].Coordinates {
		t.Errorf("a stream that was made again reuses the coordinates %s", after.Envelopes[0].Coordinates)
	}
}
