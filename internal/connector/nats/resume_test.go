package nats_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

var _ relay.Resumer = (*nats.Source)(nil)

// reading is a source with the mark that its database remembers.
type reading struct {
	t      *testing.T
	source *nats.Source
	mark   message.Mark
}

func newReading(t *testing.T, server *natstest.Server, config values) *reading {
	t.Helper()
	return &reading{t: t, source: newSource(t, sourceFrom(server, "events.>", values{"durable_name": "d"}.with(config)), "db-1")}
}

// open begins a session at the mark.
func (r *reading) open() error {
	r.t.Helper()
	r.source.ResumeFrom(r.mark)
	return r.source.Open(background(r.t))
}

// take opens, reads n messages, remembers and acknowledges them, and closes.
func (r *reading) take(n int) []message.Envelope {
	r.t.Helper()
	if err := r.open(); err != nil {
		r.t.Fatalf("open: %v", err)
	}
	var got []message.Envelope
	for len(got) < n {
		delivered := fetch(r.t, r.source, n-len(got))
		r.mark = delivered.Mark
		if delivered.Acknowledge != nil {
			acknowledge(r.t, delivered)
		}
		got = append(got, delivered.Envelopes...)
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

func sameIDs(t *testing.T, got, want []message.Envelope) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].EventID != want[i].EventID {
			t.Fatalf("message %d is %s, want %s", i, got[i].EventID, want[i].EventID)
		}
	}
}

func TestWhatTheDatabaseLostIsFetchedAgain(t *testing.T) {
	t.Parallel()
	for from, config := range map[string]values{"all": nil, "a sequence": {"deliver_from": "2"}, "new": {"deliver_from": "new"}} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			server, js := start(t)
			all := events(t, js, 0)
			r := newReading(t, server, config)
			if err := r.open(); err != nil { // makes the consumer
				t.Fatal(err)
			}
			r.close()
			all = append(all, sinktest.Envelopes("events.insert", 1, 30)...)
			publish(t, js, all)
			if from == "a sequence" {
				all = all[1:]
			}
			sameIDs(t, r.take(10), all[:10])
			remembered := r.mark
			sameIDs(t, r.take(5), all[10:15])
			r.mark = remembered // the database went back
			sameIDs(t, r.take(len(all)-10), all[10:])
			if again := consumerInfo(t, js, "EVENTS", "d"); again.NumPending+uint64(again.NumAckPending) != 0 {
				t.Errorf("left over: %+v", again)
			}
		})
	}
}

func TestWhatWasNeverDeliveredHereIsNoLoss(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	addStream(t, js, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>", "noise.>"}})
	all := sinktest.Envelopes("events.insert", 1, 12)
	noise := sinktest.Envelopes("noise.x", 100, 50)
	publish(t, js, all[:5])
	publish(t, js, noise[:20])
	r := newReading(t, server, nil)
	sameIDs(t, r.take(5), all[:5])
	publish(t, js, all[5:6])
	publish(t, js, noise[20:])
	sameIDs(t, r.take(1), all[5:6])
	// The stream forgets all of it; the consumer's floor moves along.
	stream, err := js.Stream(background(t), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(background(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, js, all[6:])
	sameIDs(t, r.take(6), all[6:])
}

func TestWhatTheStreamHasRemovedIsNamedAndStops(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 30)
	r := newReading(t, server, nil)
	sameIDs(t, r.take(10), all[:10])
	remembered := r.mark
	r.take(15)
	stream, err := js.Stream(background(t), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(background(t), jetstream.WithPurgeSequence(20)); err != nil {
		t.Fatal(err)
	}
	r.mark = remembered
	wantError(t, r.open(), delivery.VerdictMisconfigured, "up to 10", "up to 25", "begins at 20", "pg-tide pipeline adopt orders-for-payments")
	r.mark = message.Mark{} // what adopting makes of it
	sameIDs(t, r.take(5), all[25:])
}

func TestACopyDoesNotStealFromTheOriginal(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 30)
	original := newReading(t, server, nil)
	sameIDs(t, original.take(10), all[:10])
	clone := newReading(t, server, nil)
	clone.mark = original.mark
	sameIDs(t, original.take(10), all[10:20])
	if err := original.open(); err != nil {
		t.Fatal(err)
	}
	var got []message.Envelope
	for len(got) < 10 {
		got = append(got, fetch(t, original.source, 10-len(got)).Envelopes...)
	}
	sameIDs(t, got, all[20:]) // and asks for more
	natstest.Eventually(t, "the original waits", func() bool {
		return consumerInfo(t, js, "EVENTS", "d").NumWaiting > 0
	})
	wantError(t, clone.open(), delivery.VerdictMisconfigured, "up to 20", "up to 10", "a copy", "durable_name", "pipeline adopt orders-for-payments")
	original.close()
}

func TestOfTwoCopiesTheOneThatWasAdoptedLastReads(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 20)
	original := newReading(t, server, nil)
	original.mark.Claim = 1000
	sameIDs(t, original.take(10), all[:10])
	clone := newReading(t, server, nil)
	clone.mark = original.mark
	clone.mark.Claim = 2000
	sameIDs(t, clone.take(5), all[10:15])
	original.mark.Claim = 1000
	wantError(t, original.open(), delivery.VerdictMisconfigured, "another copy", "pipeline adopt orders-for-payments")
	clone.mark.Claim = 2000
	sameIDs(t, clone.take(5), all[15:])
}

func TestALossCannotBeSeenInASharedConsumer(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 20)
	r := newReading(t, server, values{"ack_wait_secs": 1})
	sameIDs(t, r.take(10), all[:10])
	remembered := r.mark
	other := newSource(t, sourceFrom(server, "events.>", values{"durable_name": "d"}), "db-2")
	open(background(t), t, other)
	acknowledge(t, fetch(t, other, 10))
	if err := r.open(); err != nil {
		t.Errorf("what went to the other database is no loss: %v", err)
	}
	r.close()
	r.mark = remembered
	r.mark.Moved = true
	wantError(t, r.open(), delivery.VerdictMisconfigured, "promoted", "shared", "pipeline adopt orders-for-payments")
}

func TestAConsumerThatWasDeletedSkipsNothingThoughItStartsWithTheNew(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	events(t, js, 0)
	r := newReading(t, server, values{"deliver_from": "new"})
	if err := r.open(); err != nil { // makes the consumer
		t.Fatal(err)
	}
	r.close()
	all := sinktest.Envelopes("events.insert", 1, 20)
	publish(t, js, all)
	sameIDs(t, r.take(10), all[:10])
	if err := js.DeleteConsumer(background(t), "EVENTS", "d"); err != nil {
		t.Fatal(err)
	}
	sameIDs(t, r.take(10), all[10:])
}
