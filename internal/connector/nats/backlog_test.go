package nats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// askingSource is one that asks for its backlog more often than in production.
func askingSource(t testing.TB, server *natstest.Server, database string, more values) *nats.Source {
	t.Helper()
	source := newSource(t, sourceFrom(server, "events.>", more), database)
	nats.MeasureEvery(source, 20*time.Millisecond)
	return source
}

func leftOf(source *nats.Source) string {
	n, known := source.Backlog()
	if !known {
		return "unknown"
	}
	return fmt.Sprint(n)
}

func wantLeft(t testing.TB, source *nats.Source, want int) {
	t.Helper()
	if got := leftOf(source); got != fmt.Sprint(want) {
		t.Errorf("the backlog is %s, want %d", got, want)
	}
}

// awaitLeft waits for the answer to a question that is asked in the background.
func awaitLeft(t testing.TB, source *nats.Source, want int) {
	t.Helper()
	got := ""
	defer func() {
		if t.Failed() {
			t.Logf("the backlog is %s, want %d", got, want)
		}
	}()
	natstest.Eventually(t, fmt.Sprintf("a backlog of %d", want), func() bool {
		got = leftOf(source)
		return got == fmt.Sprint(want)
	})
}

// Whoever is stuck hears of nothing new by fetching.
func TestTheBacklogGrowsWhileNothingIsFetchedAndEndsWithTheLastAcknowledgement(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	all := events(t, js, 90)
	source := askingSource(t, server, "db-1", nil)
	if got := leftOf(source); got != "unknown" {
		t.Errorf("before it was opened the backlog is %s", got)
	}
	ctx := background(t)
	open(ctx, t, source)
	wantLeft(t, source, 90)
	held := fetch(t, source, 7)
	wantLeft(t, source, 90)
	more := sinktest.Envelopes("events.insert", len(all)+1, 210)
	publish(t, js, more[:160])
	awaitLeft(t, source, 250)
	acknowledge(t, held)
	left := 250 - len(held.Envelopes)
	wantLeft(t, source, left)
	for left > 0 {
		// The first of them were on their way before the others were published.
		d := fetch(t, source, 10)
		wantLeft(t, source, left)
		acknowledge(t, d)
		left -= len(d.Envelopes)
		wantLeft(t, source, left)
	}
	wantLeft(t, source, 0)

	// What comes while nobody reads is known with the next session.
	if err := source.Close(ctx); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, source, 0)
	publish(t, js, more[160:])
	open(ctx, t, source)
	wantLeft(t, source, 50)
}

// What an earlier session left unacknowledged counts, and once.
func TestTheBacklogCountsWhatIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	for name, older := range map[string]values{"reset": nil, "shared": {"durable_name": "shared", "ack_wait_secs": 3}} {
		server, js := start(t)
		events(t, js, 60)
		ctx := background(t)
		if older != nil {
			open(ctx, t, askingSource(t, server, "db-2", older)) // it reads nothing
		}
		source := askingSource(t, server, "db-1", older)
		open(ctx, t, source)
		fetch(t, source, 25)
		nats.Crash(source)
		wantLeft(t, source, 60)
		open(ctx, t, source)
		wantLeft(t, source, 60)
		var d message.Delivery
		for left := 60; left > 0; left -= len(d.Envelopes) {
			d = fetch(t, source, 20) // a part of what is due
			wantLeft(t, source, left)
			acknowledge(t, d)
		}
		if got := leftOf(source); got != "0" {
			t.Errorf("%s: at the end %s are left", name, got)
		}
	}
}

// A stream removes what is too old, or is purged: nobody hears of that.
func TestTheBacklogForgetsWhatTheStreamRemoves(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	events(t, js, 60)
	ctx := background(t)
	source := askingSource(t, server, "db-1", values{"max_ack_pending": 10})
	open(ctx, t, source)
	d := fetch(t, source, 10)
	stream, err := js.Stream(ctx, "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	acknowledge(t, d)
	if err := stream.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	awaitLeft(t, source, 0)
}
