package nats_test

import (
	"fmt"
	"testing"

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
