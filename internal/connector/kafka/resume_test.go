package kafka_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/connector/kafka"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

var _ relay.Resumer = (*kafka.Source)(nil)

// reading is a source with the mark that its database remembers.
type reading struct {
	t      *testing.T
	source *kafka.Source
	topic  string
	admin  *kadm.Client
	mark   message.Mark
}

// newReading has a topic of three partitions with n messages, and a group of
// the topic's name.
func newReading(t *testing.T, n int) *reading {
	t.Helper()
	c, topic := brokers.Get(t), topicOf(t)
	makeTopic(t, c.Brokers(), topic, 3, nil)
	publish(t, plain(t, c.Brokers(), kgo.RecordPartitioner(kgo.RoundRobinPartitioner())), sinktest.Envelopes(topic, 1, n))
	admin := kadm.NewClient(plain(t, c.Brokers()))
	kafkatest.Eventually(t, "a coordinator of groups", func() bool {
		_, err := admin.FetchOffsetsForTopics(background(t), topic, topic)
		return err == nil || errors.Is(err, kerr.GroupIDNotFound)
	})
	return &reading{t: t, topic: topic, admin: admin, mark: message.Mark{Claim: 1},
		source: newSource(t, values{"brokers": c.Brokers(), "topic": topic, "group_id": topic}, "db-1")}
}

// open begins a session at the mark.
func (r *reading) open() error {
	r.t.Helper()
	r.source.ResumeFrom(r.mark)
	return r.source.Open(background(r.t))
}

// take opens, reads n messages, remembers and acknowledges them, and ends as a
// relay does that the group has forgotten.
func (r *reading) take(n int) map[string]int {
	r.t.Helper()
	if err := r.open(); err != nil {
		r.t.Fatalf("open: %v", err)
	}
	got := map[string]int{}
	for total := 0; total < n; {
		delivered, err := r.source.Fetch(background(r.t), n-total)
		if err != nil {
			r.t.Fatalf("fetch: %v", err)
		}
		claim := r.mark.Claim
		r.mark = delivered.Mark
		r.mark.Claim = claim
		for i := range delivered.Envelopes {
			got[string(delivered.Envelopes[i].Body)]++
			total++
		}
		if delivered.Acknowledge == nil {
			continue
		}
		if err := delivered.Acknowledge(background(r.t)); err != nil {
			r.t.Fatalf("acknowledge: %v", err)
		}
	}
	r.close()
	return got
}

func (r *reading) close() {
	r.t.Helper()
	if err := r.source.Close(context.Background()); err != nil {
		r.t.Fatalf("close: %v", err)
	}
}

// forget lets the group forget its member, as it does after a time.
func (r *reading) forget() {
	r.t.Helper()
	left, err := r.admin.LeaveGroup(background(r.t), kadm.LeaveGroup(r.topic).InstanceIDs("pg_tide.orders-for-payments.db-1"))
	if err == nil {
		err = left.Error()
	}
	if err != nil {
		r.t.Fatalf("forget the member: %v", err)
	}
}

func (r *reading) committed() int64 {
	return committed(r.t, brokers.Get(r.t).Brokers(), r.topic, r.topic)
}

func TestWhatTheDatabaseLostIsReadAgain(t *testing.T) {
	t.Parallel()
	r := newReading(t, 90)
	kept := r.take(30)
	remembered := r.mark
	r.take(30)
	r.mark = remembered // the database went back
	wantError(t, r.open(), delivery.VerdictRetry, "has a member pg_tide.orders-for-payments.db-1", "committed up to", "pipeline adopt orders-for-payments")
	if n := r.committed(); n != 60 {
		t.Fatalf("%d are committed while a member may read, want 60", n)
	}
	r.forget()
	again := r.take(60)
	for body := range kept {
		again[body]++
	}
	if odd := slices.DeleteFunc(slices.Collect(maps.Values(again)), func(n int) bool { return n == 1 }); len(again) != 90 || len(odd) > 0 {
		t.Errorf("%d messages are there, and some of them %v times; want 90 once each", len(again), odd)
	}
	if n := r.committed(); n != 90 {
		t.Errorf("%d are committed at the end, want 90", n)
	}
}

func TestWhatTheBrokersRemovedIsNamed(t *testing.T) {
	t.Parallel()
	r := newReading(t, 90)
	r.take(30)
	remembered := r.mark
	r.take(60)
	r.forget()
	ends, err := r.admin.ListEndOffsets(background(t), r.topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.admin.DeleteRecords(background(t), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	r.mark = remembered
	wantError(t, r.open(), delivery.VerdictMisconfigured, "the brokers have removed some of it", "pg-tide pipeline adopt orders-for-payments")
	r.mark = message.Mark{Claim: 2} // as after that
	if err := r.open(); err != nil {
		t.Errorf("once the gap was accepted: %v", err)
	}
	r.close()
}

// Offsets that another database in the group committed, or somebody by hand,
// are no loss, and are left as they are.
func TestOffsetsThatOthersCommittedAreNoLoss(t *testing.T) {
	t.Parallel()
	r := newReading(t, 90)
	r.take(30)
	remembered := r.mark
	r.forget()
	offsets := kadm.Offsets{}
	for partition := range int32(3) {
		offsets.Add(kadm.Offset{Topic: r.topic, Partition: partition, At: 25, LeaderEpoch: -1, Metadata: "pg_tide pg_tide.orders-for-payments.db-2 7"})
	}
	if err := r.admin.CommitAllOffsets(background(t), r.topic, offsets); err != nil {
		t.Fatal(err)
	}
	r.mark.Moved = true
	wantError(t, r.open(), delivery.VerdictMisconfigured, "restored to a point in time", "cannot be told from what went to the others", "pipeline adopt orders-for-payments")
	r.mark = remembered
	if got := r.take(15); len(got) != 15 {
		t.Errorf("read %d messages, want the 15 behind what the other took", len(got))
	}
	if n := r.committed(); n != 90 {
		t.Errorf("%d are committed, want 90", n)
	}
}

func TestTheCopyThatWasAdoptedLastReads(t *testing.T) {
	t.Parallel()
	r := newReading(t, 30)
	original := r.mark
	r.mark.Claim = 2 // a copy, whose pipeline was adopted
	r.take(30)
	r.forget()
	r.mark = original
	wantError(t, r.open(), delivery.VerdictMisconfigured, "taken over by another copy", "pipeline adopt orders-for-payments")
}

// After a promotion without a loss the mark is saved anew, so that it is of the
// timeline that it is compared with.
func TestAMarkOfAnotherTimelineIsSavedAnew(t *testing.T) {
	t.Parallel()
	r := newReading(t, 30)
	r.take(30)
	r.forget()
	before := r.mark
	r.mark.Moved = true
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	defer r.close()
	first, err := r.source.Fetch(background(t), 10)
	if err != nil || len(first.Envelopes) != 0 || first.Acknowledge != nil {
		t.Fatalf("the first delivery: %d messages, %v", len(first.Envelopes), err)
	}
	if first.Mark.Places != before.Places || first.Mark.Origin != before.Origin || first.Mark.Sequence != 30 {
		t.Errorf("it has the mark %+v, want %+v", first.Mark, before)
	}
}
