package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// The broker is killed in the midst of sends and fetches; the sink resends
// from the first unacknowledged, as the engine does, and the reader takes in
// what is new, as an inbox does.
func TestNothingLostOrOutOfOrderWhenTheBrokerIsKilled(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, kafkatest.Options{})
	c.CreateTopic(t, "events", 1)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	const total, batch, kills = 6000, 100, 2
	all := sinktest.Envelopes("events", 1, total)
	for i := range all { // as the wire format does
		all[i].Headers = []message.Header{{Name: "ce_id", Value: all[i].EventID}}
	}
	sink := newSink(t, values{"brokers": c.Brokers(), "topic_template": "events"})
	source := newSource(t, values{"brokers": c.Brokers(), "topic": "events"}, "db-1")
	killAt := make(chan struct{}, kills)
	killed := make(chan error, 1)
	go func() {
		for range kills {
			<-killAt
			c.Nodes[0].Kill()
			if err := c.Nodes[0].Start(ctx); err != nil {
				killed <- err
				return
			}
		}
		killed <- nil
	}()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for saved := 0; saved < total && ctx.Err() == nil; pause(ctx) {
			if sink.Open(ctx) == nil {
				saved = sendUntilFailure(ctx, sink, all, saved, batch, killAt, total/(kills+1))
			}
		}
	}()
	seen := map[string]int{}
	for last := 0; last < total && ctx.Err() == nil; pause(ctx) {
		if source.Open(ctx) == nil {
			last = readUntilFailure(ctx, t, source, seen, last, total)
		}
	}
	<-sent
	if err := <-killed; err != nil {
		t.Fatalf("run the broker again: %v", err)
	}
	if len(seen) != total {
		t.Errorf("read %d of %d", len(seen), total)
	}
	for _, o := range []opener{sink, source} {
		if err := o.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// sendUntilFailure keeps two batches outstanding and returns what is acknowledged.
func sendUntilFailure(ctx context.Context, sink sender, all []message.Envelope, saved, batch int, kill chan<- struct{}, every int) int {
	for saved < len(all) {
		first, err := sink.Send(ctx, all[saved:saved+batch])
		if err != nil {
			return saved
		}
		next := min(saved+2*batch, len(all))
		second, err := sink.Send(ctx, all[saved+batch:next])
		if saved/every != next/every {
			select {
			case kill <- struct{}{}:
			default:
			}
		}
		if first.Wait(ctx) != nil {
			return saved
		}
		saved += batch
		if err != nil || second.Wait(ctx) != nil {
			return saved
		}
		saved = next
	}
	return saved
}

// readUntilFailure checks the order of what is new, as an inbox would take it.
func readUntilFailure(ctx context.Context, t *testing.T, source interface {
	Fetch(ctx context.Context, limit int) (message.Delivery, error)
}, seen map[string]int, last, total int) int {
	for last < total {
		delivered, err := source.Fetch(ctx, 100)
		if err != nil {
			return last
		}
		for i := range delivered.Envelopes {
			id := delivered.Envelopes[i].Header("ce_id")
			if seen[id]++; seen[id] > 1 {
				continue
			}
			last++
			if want := sinktest.Envelopes("", last, 1)[0].EventID; id != want {
				t.Fatalf("read %s, want %s", id, want)
			}
		}
		if delivered.Acknowledge(ctx) != nil {
			return last
		}
	}
	return last
}

func pause(ctx context.Context) {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
