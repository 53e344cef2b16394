package e2e

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// Three NATS servers keep three copies of the stream, and the one that leads
// it is killed in the midst of traffic, again and again.
func TestLeadersOfAReplicatedStreamAreKilled(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{})
	js := clusterClient(t, servers)
	f := newTraffic(t, extended(t), extended(t), natstest.URLs(servers), `, "replicas": 3`)
	startRelay(t, f.orders.dsn)
	startRelay(t, f.payments.dsn)
	f.write(t, 3)
	for range 3 {
		f.awaitMore(t, 100)
		leader := leaderOf(t, js, servers)
		leader.Kill()
		f.awaitMore(t, 100)
		if err := leader.Run(); err != nil {
			t.Fatal(err)
		}
	}
	f.awaitMore(t, 100)
	f.settled(t)
}

// clusterClient is a client that finds whichever server is alive.
func clusterClient(t *testing.T, servers []*natstest.Server) jetstream.JetStream {
	t.Helper()
	nc, err := natsgo.Connect(natstest.URLs(servers), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// leaderOf waits until all the replicas of the stream and of its consumer are
// current, since killing one more before would stop them altogether, and
// returns the server that leads the stream.
func leaderOf(t *testing.T, js jetstream.JetStream, servers []*natstest.Server) (leader *natstest.Server) {
	t.Helper()
	eventually(t, func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		name, err := js.StreamNameBySubject(ctx, "events.orders.insert")
		if err != nil {
			return false, "find the stream: " + err.Error()
		}
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return false, "look at the stream: " + err.Error()
		}
		consumer, err := stream.Consumer(ctx, "payments")
		if err != nil {
			return false, "look at the consumer: " + err.Error()
		}
		for _, cluster := range []*jetstream.ClusterInfo{stream.CachedInfo().Cluster, consumer.CachedInfo().Cluster} {
			if why := notCurrent(cluster); why != "" {
				return false, why
			}
		}
		name = stream.CachedInfo().Cluster.Leader
		for _, server := range servers {
			if name == fmt.Sprintf("n%d", server.Port()) {
				leader = server
			}
		}
		return leader != nil, "no server is called " + name
	})
	return leader
}

func notCurrent(cluster *jetstream.ClusterInfo) string {
	if cluster == nil || cluster.Leader == "" || len(cluster.Replicas) != 2 {
		return fmt.Sprintf("there are no three replicas: %+v", cluster)
	}
	for _, replica := range cluster.Replicas {
		if !replica.Current || replica.Offline {
			return fmt.Sprintf("replica %s of %s is not current", replica.Name, cluster.RaftGroup)
		}
	}
	return ""
}

// The primary dies in the midst of traffic, and its synchronous standby is
// promoted. Relays and publishers name both hosts and find the new primary.
func TestASynchronousStandbyIsPromoted(t *testing.T) {
	t.Parallel()
	primary, orders, payments := ownServer(t, nil)
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Close(); err != nil {
			t.Errorf("close the standby: %v", err)
		}
	})
	for _, s := range []*service{orders, payments} {
		s.dsn = eitherHost(t, s.dsn, standby)
		s.typed, s.pool = pgtest.Conn(t, s.dsn), pgtest.Pool(t, s.dsn)
	}
	orders.execute(t, `alter system set synchronous_standby_names = '*'`)
	orders.execute(t, `select pg_reload_conf()`)
	eventually(t, func() (bool, string) {
		return one[bool](t, orders, `select exists (select from pg_stat_replication where sync_state = 'sync')`), "the standby follows synchronously"
	})
	f := newTraffic(t, orders, payments, startBroker(t).URL(), "")
	startRelay(t, orders.dsn)
	startRelay(t, payments.dsn)
	f.write(t, 3)
	f.awaitMore(t, 300)
	if err := primary.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	admin := pgtest.Conn(t, standby.DSN("postgres"))
	if _, err := admin.Exec(t.Context(), `select pg_promote()`); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*service{orders, payments} {
		s.pool.Reset()
		s.typed = pgtest.Conn(t, s.dsn)
	}
	f.awaitMore(t, 300)
	f.settled(t)
}

// eitherHost is a DSN that names both servers and wants the one that takes writes.
func eitherHost(t *testing.T, dsn string, second *throwaway.Server) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host += fmt.Sprintf(",127.0.0.1:%d", second.Port)
	query := u.Query()
	query.Set("target_session_attrs", "read-write")
	u.RawQuery = query.Encode()
	return u.String()
}
