// Package kafkatest runs Apache Kafka for tests: one or three brokers, each a
// process of its own that can be killed, stopped, frozen and started again
// with its data. It serves tests only and refuses to be used on anything but
// the loopback address.
package kafkatest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/broker/kafka"
)

const (
	startTimeout = 10 * time.Minute
	waitTimeout  = 5 * time.Minute
)

// Options say how a cluster is set up. The zero value is one broker that lets
// in everybody.
type Options struct {
	// Brokers is 1, or 3 that each hold every partition, of which two suffice.
	Brokers int
	// Certificates adds listeners with TLS; MutualTLS demands a client's
	// certificate of the same authority where there is no login. Who shows one is
	// the user CertificateUser.
	Certificates *Certificates
	MutualTLS    bool
	// Users adds listeners with PLAIN and SCRAM, for those names and passwords.
	Users map[string]string
	// Tokens adds OAUTHBEARER to them.
	Tokens *Tokens
	// Authorize makes ACLs count for those who log in; see Cluster.Allow. Who
	// comes without a login may do everything.
	Authorize bool
	// Ways is how many proxies stand before each broker; see Cluster.Between.
	Ways int
	// Settings are added to each broker's configuration.
	Settings map[string]string
}

// Cluster is running, or stopped, brokers.
type Cluster struct {
	*kafka.Cluster

	ways []*Way
	dir  string
	ctx  context.Context
}

// Start runs a cluster until the test ends.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// New runs a cluster until Close.
func New(o Options) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	programs, err := kafka.Fetch(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pg-tide-kafka-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, ctx: context.Background()}
	if c.Cluster, err = kafka.New(ctx, programs, o.kafka(dir)); err == nil {
		err = c.openWays(o.Ways)
	}
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (o Options) kafka(dir string) kafka.Options {
	k := kafka.Options{Dir: dir, Brokers: o.Brokers, Ways: o.Ways, Authorize: o.Authorize, Settings: o.Settings}
	if o.Certificates != nil {
		k.TLS = &kafka.TLS{CA: o.Certificates.CA, Cert: o.Certificates.ServerCert, Key: o.Certificates.ServerKey, Mutual: o.MutualTLS}
	}
	if o.Users != nil || o.Tokens != nil {
		k.Login = &kafka.Login{Users: o.Users}
	}
	if o.Tokens != nil {
		k.Login.Keys, k.Login.Issuer, k.Login.Audience = o.Tokens.Keys, Issuer, Audience
	}
	return k
}

// Close ends the brokers at once and removes their data.
func (c *Cluster) Close() {
	if c.Cluster != nil {
		c.Kill()
	}
	for _, w := range c.ways {
		w.close()
	}
	_ = os.RemoveAll(c.dir)
}

// Brokers is where clients without a login connect, as the key brokers has it.
func (c *Cluster) Brokers() string { return strings.Join(c.Addresses(), ",") }

// TLSBrokers, LoginBrokers and LoginTLSBrokers are those of the other listeners.
func (c *Cluster) TLSBrokers() string { return strings.Join(c.TLSAddresses(), ",") }

// LoginBrokers are the listeners with SASL and without TLS.
func (c *Cluster) LoginBrokers() string { return strings.Join(c.LoginAddresses(), ",") }

// LoginTLSBrokers are the listeners with both.
func (c *Cluster) LoginTLSBrokers() string { return strings.Join(c.LoginTLSAddresses(), ",") }

// Restart starts every broker that does not run, with its data.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, startTimeout)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatalf("start Kafka again: %v", err)
	}
}

// Revive starts one broker, from 0 on, that was killed or stopped.
func (c *Cluster) Revive(t testing.TB, broker int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, startTimeout)
	defer cancel()
	if err := c.Nodes[broker].Start(ctx); err != nil {
		t.Fatalf("start broker %d of Kafka again: %v", broker, err)
	}
}

// Freeze makes all brokers hang: connections stay, and nothing is done, until Thaw.
func (c *Cluster) Freeze(t testing.TB) {
	t.Helper()
	for _, n := range c.Nodes {
		if err := n.Process().Freeze(); err != nil {
			t.Fatalf("freeze Kafka: %v", err)
		}
		Eventually(t, "all threads of Kafka stand still", func() bool { return stopped(n.Process().PID()) })
	}
}

// stopped says whether no thread of a process runs any more: on a busy machine
// some go on for a moment after the signal, and one may still answer. It is
// true where the system does not tell.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return true
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if i := strings.LastIndex(string(text), ") "); i >= 0 && !strings.HasPrefix(string(text)[i+len(") "):], "T") {
			return false
		}
	}
	return true
}

// Thaw lets frozen brokers go on.
func (c *Cluster) Thaw(t testing.TB) {
	t.Helper()
	for _, n := range c.Nodes {
		if err := n.Process().Thaw(); err != nil {
			t.Fatalf("let Kafka go on: %v", err)
		}
	}
}

// Client connects without a login until the test ends.
func (c *Cluster) Client(t testing.TB, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Addresses()...)}, options...)...)
	if err != nil {
		t.Fatalf("connect to Kafka: %v", err)
	}
	t.Cleanup(client.Close)
	return client
}

// CreateTopic makes a topic with as many replicas as there are brokers.
func (c *Cluster) CreateTopic(t testing.TB, topic string, partitions int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, waitTimeout)
	defer cancel()
	if _, err := kadm.NewClient(c.Client(t)).CreateTopic(ctx, partitions, -1, nil, topic); err != nil {
		t.Fatalf("create the topic %s: %v", topic, err)
	}
}

// Allow lets a user do something with all topics and groups whose names begin
// so, which counts with Options.Authorize.
func (c *Cluster) Allow(t testing.TB, user, prefix string, operations ...kadm.ACLOperation) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, waitTimeout)
	defer cancel()
	rules := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").Operations(operations...).
		Topics(prefix).Groups(prefix).ResourcePatternType(kadm.ACLPatternPrefixed)
	results, err := kadm.NewClient(c.Client(t)).CreateACLs(ctx, rules)
	if err != nil {
		t.Fatalf("allow %s something: %v", user, err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatalf("allow %s something: %v", user, r.Err)
		}
	}
}

// Shared is a cluster that the tests of a package share. The first that asks
// starts it; TestMain closes it.
type Shared struct {
	// Options say how it is set up.
	Options Options

	once    sync.Once
	cluster *Cluster
	err     error
}

// Get returns the cluster, which runs.
func (s *Shared) Get(t testing.TB) *Cluster {
	t.Helper()
	s.once.Do(func() { s.cluster, s.err = New(s.Options) })
	if s.err != nil {
		t.Fatalf("%v", s.err)
	}
	return s.cluster
}

// Close ends the cluster, if there is one.
func (s *Shared) Close() {
	if s.cluster != nil {
		s.cluster.Close()
	}
}

// Eventually polls until condition holds, and fails the test when it does not in time.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(waitTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
