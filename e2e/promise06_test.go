package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
)

// TestPromise06 loses what the broker had acknowledged: the relay notices when
// it connects again and sends it again with the same ids, from the last point
// for which the broker still has everything.
func TestPromise06TheAcknowledgedIsDurable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		// prepare is called when half is sent, and returns what loses the rest.
		prepare func(t *testing.T, b *broker) (lose func(t *testing.T))
		// away: the relay of the orders is not running when it happens.
		away bool
		says string
	}{
		{"power failure", copiedStore, false, "%lost its end: it stops at 21,%is sent again%"},
		{"power failure while the relay is away", copiedStore, true, "%lost its end: it stops at 21,%is sent again%"},
		{"unsynced end of the file cut", cutFile, false, "%lost its end: it stops at 21,%is sent again%"},
		{"others publish before the relay is back", overwritten, true, "%number 41 was acknowledged for another event%is sent again%"},
		{"stream deleted", deletedStream, false, "%was made again%everything that the outbox retains is sent again%"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broker := startBroker(t)
			b := newBus(t, broker.URL())
			want := []string{"ORD-001 order.created"}
			orders := func(from, to int) {
				for i := from; i <= to; i++ {
					b.order(t, fmt.Sprintf("O%03d", i), "order.created")
					want = append(want, fmt.Sprintf("O%03d order.created", i))
				}
			}
			sender := startRelay(t, b.orders.dsn)
			receiver := startRelay(t, b.payments.dsn)
			orders(1, 20)
			b.payments.arrived(t, "payment_triggers", 21)
			// The losses are cut between the first 21 and what follows.
			b.orders.awaitSent(t, 21)
			receiver.stop(t)
			sender.stop(t)
			lose := c.prepare(t, broker)
			sender = startRelay(t, b.orders.dsn)
			orders(21, 40)
			b.orders.awaitSent(t, 41)
			if c.away {
				sender.kill(t)
			}
			lose(t)
			if c.away {
				startRelay(t, b.orders.dsn)
			}
			b.orders.awaitStatus(t, "orders-to-nats", `r.state = 'running' and r.last_error like '`+c.says+`'`)
			startRelay(t, b.payments.dsn)
			orders(41, 50)
			if got := b.payments.arrived(t, "payment_triggers", len(want)); !slices.Equal(got, want) {
				t.Errorf("payments got %q\nwant %q", got, want)
			}
		})
	}
}

// awaitSent waits until the saved position says that the n events of the
// outbox were delivered.
func (s *service) awaitSent(t *testing.T, n int) {
	t.Helper()
	s.awaitStatus(t, "orders-to-nats", fmt.Sprintf(`r.lag_events = 0 and (select count(*) from tide.outbox_event) = %d`, n))
}

// copiedStore puts the files back to what they were: what was written since
// then had not reached the disk.
func copiedStore(t *testing.T, b *broker) func(t *testing.T) {
	t.Helper()
	synced := filepath.Join(t.TempDir(), "synced")
	b.server.Stop() // so that the files are whole
	copyStore(t, b.server.StoreDir(), synced)
	b.Start(t)
	return func(t *testing.T) {
		t.Helper()
		b.Kill(t)
		if err := os.RemoveAll(b.server.StoreDir()); err != nil {
			t.Fatal(err)
		}
		copyStore(t, synced, b.server.StoreDir())
		b.Start(t)
	}
}

func copyStore(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// cutFile cuts the stream's message file where it ended.
func cutFile(t *testing.T, b *broker) func(t *testing.T) {
	t.Helper()
	b.server.Stop()
	file := messageFile(t, b.server)
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	b.Start(t)
	return func(t *testing.T) {
		t.Helper()
		b.Kill(t)
		if err := os.Truncate(messageFile(t, b.server), before.Size()); err != nil {
			t.Fatal(err)
		}
		b.Start(t)
	}
}

func messageFile(t *testing.T, server *natstest.Server) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(server.StoreDir(), "*", "*", "streams", "tide-events", "msgs", "*.blk"))
	if err != nil || len(found) != 1 {
		t.Fatalf("message files %q, %v", found, err)
	}
	return found[0]
}

// overwritten is a loss after which somebody else publishes to the stream, so
// that its last sequence is as high as before.
func overwritten(t *testing.T, b *broker) func(t *testing.T) {
	t.Helper()
	lose := copiedStore(t, b)
	return func(t *testing.T) {
		t.Helper()
		lose(t)
		js := b.server.JetStream(t)
		for range 30 {
			if _, err := js.Publish(t.Context(), "events.of.others", []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func deletedStream(t *testing.T, b *broker) func(t *testing.T) {
	t.Helper()
	b.Start(t)
	return func(t *testing.T) {
		t.Helper()
		if err := b.server.JetStream(t).DeleteStream(t.Context(), "tide-events"); err != nil {
			t.Fatal(err)
		}
		b.Kill(t) // which ends the session
		b.Start(t)
	}
}
