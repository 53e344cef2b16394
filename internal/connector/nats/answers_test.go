package nats_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// sendAll does as the engine does: up to three batches are outstanding,
// receipts are awaited in order, and after a failure the next session sends
// again from the first batch that was not acknowledged. It returns the number of sessions.
func sendAll(ctx context.Context, t *testing.T, sink interface {
	opener
	sender
}, all []message.Envelope, batch int) (sessions int) {
	t.Helper()
	for saved := 0; saved < len(all) && ctx.Err() == nil; sessions++ {
		if err := sink.Open(ctx); err != nil {
			t.Fatalf("open: %v", err)
		}
		var outstanding []delivery.Receipt
		for sent := saved; saved < len(all); {
			if sent < len(all) && len(outstanding) < 3 {
				next := min(sent+batch, len(all))
				receipt, err := sink.Send(ctx, all[sent:next])
				if err != nil {
					break
				}
				outstanding, sent = append(outstanding, receipt), next
				continue
			}
			if outstanding[0].Wait(ctx) != nil {
				break
			}
			outstanding, saved = outstanding[1:], min(saved+batch, len(all))
		}
	}
	if err := sink.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	return sessions
}

// wantStored asserts that a stream holds these events, each once, in order.
func wantStored(t *testing.T, js jetstream.JetStream, want []message.Envelope) {
	t.Helper()
	got := stored(t, js, "tide-events")
	if len(got) != len(want) {
		t.Errorf("stored %d events, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i].EventID != want[i].EventID {
			t.Fatalf("number %d is %s, want %s", i+1, got[i].EventID, want[i].EventID)
		}
	}
}

func TestWhateverBecomesOfAcknowledgementsTheStreamHoldsEachEventOnceInOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		script   func(connection, number int) natstest.Answer
		sessions int
	}{
		{"reordered and delayed", func(_, number int) natstest.Answer {
			if number%7 == 0 || number > 590 {
				return natstest.Pass
			}
			return natstest.Hold
		}, 1},
		{"lost", func(connection, number int) natstest.Answer {
			if connection == 1 && number == 155 {
				return natstest.Drop
			}
			return natstest.Pass
		}, 2},
		{"refused now and then", func(connection, number int) natstest.Answer {
			if connection <= 5 && number == 20+connection*17 {
				return natstest.Refuse
			}
			return natstest.Pass
		}, 6},
		{"refused at once, and reordered", func(connection, number int) natstest.Answer {
			switch {
			case connection <= 4 && number == 1:
				return natstest.Refuse
			case number%5 > 0 && number <= 590:
				return natstest.Hold
			}
			return natstest.Pass
		}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server, js := start(t)
			proxy := natstest.ScriptAnswers(t, server, c.script)
			sink := newSink(t, values{"url": proxy.URL(), "subject_template": "events.{op}"})
			all := sinktest.Envelopes("events.insert", 1, 600)
			if got := sendAll(background(t), t, sink, all, 50); got != c.sessions {
				t.Errorf("it took %d sessions, want %d", got, c.sessions)
			}
			wantStored(t, js, all)
		})
	}
}

// A large event that a nearly full stream refuses is not overtaken by the small
// ones behind it, which there is room for.
func TestNothingOvertakesAnEventThatAFullStreamRefuses(t *testing.T) {
	t.Parallel()
	for _, atomic := range []bool{true, false} {
		t.Run(fmt.Sprintf("atomic batches %t", atomic), func(t *testing.T) {
			t.Parallel()
			server, js := start(t)
			ctx := background(t)
			const room = 64 << 10
			config := jetstream.StreamConfig{Name: "tide-events", Subjects: []string{"events.>"}, MaxBytes: room,
				Discard: jetstream.DiscardNew, AllowAtomicPublish: atomic}
			addStream(t, js, config)
			sink := newSink(t, sinkTo(server, "events.{op}", nil))
			all := sinktest.Envelopes("events.insert", 1, 40)
			all[20].Body = []byte(strings.Repeat("x", room-1<<10))
			open(ctx, t, sink)
			receipt, err := sink.Send(ctx, all)
			if err != nil {
				t.Fatalf("send: %v", err)
			}
			wantError(t, receipt.Wait(ctx), delivery.VerdictRetry, "is full and discards new messages")
			for _, e := range stored(t, js, "tide-events") {
				if e.EventID >= all[20].EventID {
					t.Fatalf("%s was stored before %s", e.EventID, all[20].EventID)
				}
			}
			config.MaxBytes = 4 * room
			if _, err := js.UpdateStream(ctx, config); err != nil {
				t.Fatal(err)
			}
			sendAll(ctx, t, sink, all, 10)
			wantStored(t, js, all)
		})
	}
}
