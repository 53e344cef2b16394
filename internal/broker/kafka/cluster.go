package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	startTimeout = 5 * time.Minute
	stopTimeout  = 60 * time.Second
	lookEvery    = 50 * time.Millisecond
)

// Options say what cluster to prepare. The zero value is one broker that lets
// in everybody who can reach the loopback.
type Options struct {
	// Dir gets configuration and logs, Store the data; an empty Store is in Dir.
	Dir, Store string
	// Brokers is how many there are: 1, or 3 that each hold every partition.
	Brokers int
	// Ways is how many more addresses each broker has, each of which may be
	// told to clients as another one: that of a proxy. See Node.Tell.
	Ways int
	// TLS adds listeners with TLS, Login listeners with SASL.
	TLS   *TLS
	Login *Login
	// Authorize makes rules (ACLs) count for those who log in. Who comes
	// without logging in may do everything.
	Authorize bool
	// Optimize is for measurements: the broker starts slower, and gets faster.
	Optimize bool
	// Settings are added to each broker's, over our own.
	Settings map[string]string

	javaFlags []string
}

// TLS is what listeners with TLS need, as paths of PEM files.
type TLS struct {
	CA, Cert, Key string
	// Mutual demands a client's certificate on the listeners without a login.
	Mutual bool
}

// Login is who may log in, and how.
type Login struct {
	// Users have passwords, for PLAIN and SCRAM.
	Users map[string]string
	// Keys is the path of a JSON Web Key Set. It adds OAUTHBEARER, for tokens
	// that have Issuer and Audience and are signed by one of them.
	Keys, Issuer, Audience string
}

// Cluster is one or three brokers.
type Cluster struct {
	// Nodes are the brokers.
	Nodes []*Node

	programs *Programs
	options  Options
	id       string
	dir      string
}

// New prepares a cluster on free ports.
func New(ctx context.Context, p *Programs, o Options) (*Cluster, error) {
	o.Brokers = max(o.Brokers, 1)
	if o.Brokers != 1 && o.Brokers != 3 {
		return nil, fmt.Errorf("a cluster of %d brokers was asked for: it has 1 or 3", o.Brokers)
	}
	if o.Store == "" {
		o.Store = o.Dir
	}
	c := &Cluster{programs: p, options: o, id: clusterID(), dir: o.Dir}
	ports := &ports{}
	for n := range o.Brokers {
		node, err := c.newNode(ctx, n+1, ports)
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, node)
	}
	return c, nil
}

// clusterID is in the form that the tools of Kafka give it: never a dash first.
func clusterID() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // it never fails
	return "P" + base64.RawURLEncoding.EncodeToString(raw)[1:]
}

// Addresses are where clients without a login connect.
func (c *Cluster) Addresses() []string { return c.at(func(n *Node) string { return n.Address() }) }

// TLSAddresses, LoginAddresses and LoginTLSAddresses are those of the other
// listeners. Where there is no such listener nobody answers there.
func (c *Cluster) TLSAddresses() []string {
	return c.at(func(n *Node) string { return n.on(listenTLS) })
}

// LoginAddresses are the listeners with SASL and without TLS.
func (c *Cluster) LoginAddresses() []string {
	return c.at(func(n *Node) string { return n.on(listenLogin) })
}

// LoginTLSAddresses are the listeners with both.
func (c *Cluster) LoginTLSAddresses() []string {
	return c.at(func(n *Node) string { return n.on(listenLoginTLS) })
}

func (c *Cluster) at(address func(*Node) string) []string {
	all := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		all[i] = address(n)
	}
	return all
}

// Start starts all brokers that do not run, and returns when each of them
// knows all. The first time it prepares their folders.
func (c *Cluster) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("start Kafka: not ready after %s", startTimeout))
	defer cancel()
	if err := c.together(func(n *Node) error { return n.launch(ctx) }); err != nil {
		return err
	}
	return c.together(func(n *Node) error { return n.await(ctx, len(c.Nodes)) })
}

func (c *Cluster) together(work func(*Node) error) error {
	failed := make([]error, len(c.Nodes))
	var all sync.WaitGroup
	for i, n := range c.Nodes {
		all.Go(func() { failed[i] = work(n) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// Kill ends all brokers by SIGKILL.
func (c *Cluster) Kill() {
	_ = c.together(func(n *Node) error { n.Kill(); return nil }) // none fails
}

// Stop ends all brokers in good order.
func (c *Cluster) Stop() error { return c.stop(stopTimeout) }

func (c *Cluster) stop(patience time.Duration) error {
	return c.together(func(n *Node) error { return n.stop(patience) })
}

// knows says whether the broker serves and knows that many.
func knows(ctx context.Context, address string, brokers int) bool {
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.RequestRetries(0))
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{}
	answer, err := request.RequestWith(ctx, client)
	return err == nil && len(answer.Brokers) == brokers
}

// logEnd is the end of a broker's log, for error messages.
func logEnd(path string) string {
	const most = 4000
	text, err := os.ReadFile(path)
	if err != nil {
		return "(its log cannot be read)"
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return filepath.Base(path) + ":\n" + strings.TrimSpace(string(text))
}
