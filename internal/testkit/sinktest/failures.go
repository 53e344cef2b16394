package sinktest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// moment is how long something is tried that a far end which hangs must not
// answer: a right sink waits for its end, whatever it is, and a wrong one has
// answered long before.
const moment = 300 * time.Millisecond

func acknowledgedSurvives(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 500)
	mustSend(ctx, t, sink, want)
	h.Kill(t)
	arrived(t, f, h.Stored(t), want)
}

func waitsForTheFarEnd(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 20)
	mustSend(ctx, t, sink, want[:10])
	thaw := h.Freeze(t)
	short, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	var err error
	conformance.Returns(ctx, t, "sending to a far end that hangs", func() { err = send(short, sink, want[10:]) })
	thaw()
	if err == nil {
		t.Fatal("events were acknowledged while the far end did nothing")
	}
	// A new session sends them again, and what the old one left behind does no harm.
	conformance.Retry(ctx, t, func() error {
		if err := sink.Open(ctx); err != nil {
			return err
		}
		return send(ctx, sink, want[10:])
	})
	arrived(t, f, h.Stored(t), want)
}

// noticesLoss has the mark proved by a new session, before and after the loss.
func noticesLoss(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	witness, is := sink.(relay.Witness)
	if !is {
		t.Fatal("the harness can make the far end lose something, and the sink is no relay.Witness")
	}
	mustSend(ctx, t, sink, Envelopes(h.Destination, 1, 10))
	mark := witness.Mark()
	proof := func() delivery.Proof {
		if err := sink.Open(ctx); err != nil {
			t.Fatalf("open: %v", err)
		}
		proof, err := witness.Prove(ctx, mark)
		if err != nil {
			t.Fatalf("prove: %v", err)
		}
		return proof
	}
	if p := proof(); !p.Holds {
		t.Fatalf("the far end has everything, and the mark does not hold: %q", p.Lost)
	}
	h.Lose(t)
	if p := proof(); p.Holds || p.Lost == "" {
		t.Fatalf("the far end lost everything; the mark holds: %t, what is lost: %q", p.Holds, p.Lost)
	}
}

func noticesCut(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	watcher, is := sink.(relay.Watcher)
	if !is {
		t.Fatal("a sink with a lasting connection is a relay.Watcher")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	var err error
	conformance.Returns(ctx, t, "watching with a context that has ended", func() { err = watcher.Watch(ended) })
	if err != nil {
		t.Fatalf("watching a connection that is well: %v", err)
	}
	h.Cut(t)
	conformance.Returns(ctx, t, "watching a connection that was cut", func() { err = watcher.Watch(ctx) })
	if err == nil {
		t.Fatal("the loss of the connection was not noticed")
	}
}

func resendsAfterRestart(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 300)
	mustSend(ctx, t, sink, want[:100])
	h.Restart(t)
	// What the engine does: until it works, open a new session and resend
	// from the first event that was not acknowledged.
	conformance.Retry(ctx, t, func() error {
		if err := sink.Open(ctx); err != nil {
			return err
		}
		return send(ctx, sink, want[100:])
	})
	arrived(t, f, h.Stored(t), want)
}

func restartedAmid(t testing.TB, f Features, h Harness) { goesOnAfter(t, f, h, h.Restart) }

func killedAmid(t testing.TB, f Features, h Harness) { goesOnAfter(t, f, h, h.Kill) }

func cutAmid(t testing.TB, f Features, h Harness) { goesOnAfter(t, f, h, h.Cut) }

// goesOnAfter sends while trouble happens, twice: once with batches
// outstanding, and once more in the session that came after.
func goesOnAfter(t testing.TB, f Features, h Harness, trouble func(t testing.TB)) {
	ctx := conformance.Limited(t)
	beside := func(ctx context.Context, send func(ctx context.Context) error) error {
		sent := make(chan error, 1)
		go func() { sent <- send(ctx) }()
		trouble(t)
		return <-sent
	}
	run := &engine{sink: opened(ctx, t, h), all: Envelopes(h.Destination, 1, 3000), size: 100,
		amid: map[int]func(context.Context, func(context.Context) error) error{4: beside, 17: beside}}
	run.run(ctx, t)
	if len(run.amid) > 0 {
		t.Fatal("the trouble did not happen amid the batches")
	}
	arrived(t, f, h.Stored(t), run.all)
}

func frozenAmid(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	during := func(ctx context.Context, send func(ctx context.Context) error) error {
		defer h.Freeze(t)()
		short, cancel := context.WithTimeout(ctx, moment)
		defer cancel()
		if err := send(short); err != nil {
			return err
		}
		<-short.Done()
		return errors.New("the relay loses its patience")
	}
	run := &engine{sink: opened(ctx, t, h), all: Envelopes(h.Destination, 1, 2000), size: 100,
		amid: map[int]func(context.Context, func(context.Context) error) error{5: during, 12: during}}
	run.run(ctx, t)
	arrived(t, f, h.Stored(t), run.all)
}
