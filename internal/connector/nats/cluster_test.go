package nats_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func TestAClusterSurvivesTheLossOfAServer(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{})
	ctx := background(t)
	config := values{"url": natstest.URLs(servers), "subject_template": "events.{op}", "subject": "events.>", "replicas": 3, "durable_name": "d"}
	sink, source := newSink(t, config), newSource(t, config, "db-1")
	natstest.Eventually(t, "the cluster has a leader and takes a stream", func() bool { return sink.Open(ctx) == nil })
	natstest.Eventually(t, "the consumer is there", func() bool { return source.Open(ctx) == nil })
	all := sinktest.Envelopes("events.insert", 1, 3000)
	lost := map[string]*natstest.Server{}
	for _, server := range servers {
		lost["n"+fmt.Sprint(server.Port())] = server
	}
	for saved := 0; saved < len(all); {
		if saved == 1000 {
			leader := streamInfo(t, servers[0].JetStream(t), "tide-events").Cluster.Leader
			lost[leader].Stop()
			saved++ // once
		}
		next := min(saved-saved%100+100, len(all))
		if err := send(ctx, sink, all[saved-saved%100:next]...); err != nil {
			_ = sink.Open(ctx) // until the cluster has a leader again
			pause(ctx)
			continue
		}
		saved = next
	}
	seen := map[string]bool{}
	for len(seen) < len(all) {
		delivered, err := source.Fetch(ctx, 500)
		if err != nil || delivered.Acknowledge(ctx) != nil {
			_ = source.Open(ctx) // until the cluster has a leader again
			pause(ctx)
			continue
		}
		for i := range delivered.Envelopes {
			id := delivered.Envelopes[i].EventID
			if !seen[id] && id != all[len(seen)].EventID {
				t.Fatalf("read %s, want %s", id, all[len(seen)].EventID)
			}
			seen[id] = true
		}
	}
	for _, o := range []opener{sink, source} {
		if err := o.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func TestOrderHoldsWhenAStreamChangesItsLeader(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{})
	ctx := background(t)
	config := values{"url": natstest.URLs(servers), "subject_template": "events.{op}", "subject": "events.>", "replicas": 3, "durable_name": "d"}
	sink := newSink(t, config)
	natstest.Eventually(t, "the cluster has a leader and takes a stream", func() bool { return sink.Open(ctx) == nil })
	all := sinktest.Envelopes("events.insert", 1, 20_000)
	js := servers[0].JetStream(t)
	for saved, changes := 0, 0; saved < len(all); {
		if saved >= changes*len(all)/5 {
			changes++
			stepDown(ctx, js)
		}
		// As the engine does: up to three batches outstanding, and after a
		// failure again from the first that was not acknowledged.
		n, err := sendSome(ctx, sink, all[saved:], 100, 10)
		saved += n
		for err != nil && ctx.Err() == nil {
			pause(ctx)
			err = sink.Open(ctx)
		}
	}
	if err := sink.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	source := newSource(t, config, "db-1")
	natstest.Eventually(t, "the consumer is there", func() bool { return source.Open(ctx) == nil })
	readInOrder(ctx, t, source, all)
	if err := source.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// stepDown asks the stream's leader to hand over while events are under way.
func stepDown(ctx context.Context, js jetstream.JetStream) {
	go func() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, _ = js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN.tide-events", nil) // the events show
	}()
}

// sendSome sends up to n batches, three of them outstanding, and returns how
// many events are acknowledged.
func sendSome(ctx context.Context, sink *nats.Sink, all []message.Envelope, batch, n int) (saved int, err error) {
	var outstanding []delivery.Receipt
	for next := 0; next < min(n*batch, len(all)) || len(outstanding) > 0; {
		if next < min(n*batch, len(all)) && len(outstanding) < 3 {
			receipt, err := sink.Send(ctx, all[next:next+batch])
			if err != nil {
				return saved, err
			}
			outstanding = append(outstanding, receipt)
			next += batch
			continue
		}
		if err := outstanding[0].Wait(ctx); err != nil {
			return saved, err
		}
		outstanding, saved = outstanding[1:], saved+batch
	}
	return saved, nil
}

func readInOrder(ctx context.Context, t *testing.T, source *nats.Source, all []message.Envelope) {
	t.Helper()
	for read := 0; read < len(all); {
		delivered := fetch(t, source, 500)
		acknowledge(t, delivered)
		for i := range delivered.Envelopes {
			e := &delivered.Envelopes[i]
			if e.EventID != all[read].EventID {
				t.Fatalf("read %s, want %s", e.EventID, all[read].EventID)
			}
			if len(e.Headers) > 0 {
				t.Fatalf("headers that nobody sent: %v", e.Headers)
			}
			read++
		}
	}
}

func TestAResendToAReplicatedStreamIsStoredOnce(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{})
	ctx := background(t)
	config := values{"url": natstest.URLs(servers), "subject_template": "events.{op}", "replicas": 3}
	sink := newSink(t, config)
	natstest.Eventually(t, "the cluster has a leader and takes a stream", func() bool { return sink.Open(ctx) == nil })
	all := sinktest.Envelopes("events.insert", 1, 2500)
	for _, part := range [][]message.Envelope{all[:60], all[:100], all[100:101], all[50:]} {
		if err := send(ctx, sink, part...); err != nil {
			t.Fatalf("send: %v", err)
		}
	}
	if err := sink.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	info := streamInfo(t, servers[0].JetStream(t), "tide-events")
	if info.State.Msgs != uint64(len(all)) || !info.Config.AllowAtomicPublish {
		t.Errorf("stored %d of %d, atomic batches %t", info.State.Msgs, len(all), info.Config.AllowAtomicPublish)
	}
}

func TestASinkGetsItsReplicasAlthoughASourceCameFirst(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{})
	ctx := background(t)
	config := values{"url": natstest.URLs(servers), "subject_template": "events.{op}", "subject": "events.>", "durable_name": "d"}
	source := newSource(t, config, "db-1")
	natstest.Eventually(t, "the cluster has a leader, and stream and consumer are there", func() bool { return source.Open(ctx) == nil })
	config["replicas"] = 3
	sink := newSink(t, config)
	natstest.Eventually(t, "the stream is widened", func() bool { return sink.Open(ctx) == nil })
	natstest.Eventually(t, "an event is stored", func() bool {
		if err := send(ctx, sink, sinktest.Envelopes("events.insert", 1, 1)...); err != nil {
			_ = sink.Open(ctx) // until the new replicas have a leader
			return false
		}
		return true
	})
	if info := streamInfo(t, servers[0].JetStream(t), "tide-events"); info.Config.Replicas != 3 || !info.Config.AllowAtomicPublish {
		t.Errorf("%d replicas, atomic batches %t", info.Config.Replicas, info.Config.AllowAtomicPublish)
	}
	for _, o := range []opener{sink, source} {
		if err := o.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
