package kafka

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

const (
	connectTimeout = 5 * time.Second
	requestTimeout = 5 * time.Second
	// watchInterval is how often a session that hears nothing asks whether the
	// cluster is there.
	watchInterval = 5 * time.Second
	// retryTimeout bounds how long the client repeats one question by itself:
	// the engine's own retries say what they wait for.
	retryTimeout = 4 * time.Second
	// closeTimeout bounds the client's farewell, which waits for the answer to
	// whatever it asked a group.
	closeTimeout = time.Second
)

var errClosed = errors.New("the connection was closed by the relay")

// connection is one session with the cluster. The client connects to brokers
// again by itself; what it may resend is bounded by who uses it.
type connection struct {
	client  *kgo.Client
	admin   *kadm.Client
	brokers string
	dials   *dials

	drop    context.CancelFunc // ends what the client is asking
	closing sync.Once
	ended   chan struct{}
}

// connect makes a client and sees that a broker answers it. It returns a
// sentence with a verdict when that cannot be.
func connect(ctx context.Context, a *address, name string, more ...kgo.Opt) (*connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	secure, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	d := &dials{}
	living, drop := context.WithCancel(context.WithoutCancel(ctx))
	options := []kgo.Opt{
		kgo.WithContext(living),
		kgo.SeedBrokers(a.brokers...),
		kgo.ClientID(name),
		kgo.SoftwareNameAndVersion("pg-tide", "1"),
		kgo.DialTimeout(connectTimeout),
		kgo.RetryTimeout(retryTimeout),
		kgo.RetryBackoffFn(backoff),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.DisableClientMetrics(),
		kgo.WithHooks(d),
	}
	if secure != nil {
		options = append(options, kgo.DialTLSConfig(secure))
	}
	if mechanism := a.login.client(); mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	client, err := kgo.NewClient(append(options, more...)...)
	if err != nil {
		drop()
		return nil, misconfigured("the client refuses its settings: %w", err)
	}
	c := &connection{client: client, admin: kadm.NewClient(client), brokers: a.String(), dials: d, drop: drop, ended: make(chan struct{})}
	c.admin.SetTimeoutMillis(int32(requestTimeout / time.Millisecond))
	if err := c.ping(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// backoff is the client's own between its attempts.
func backoff(attempt int) time.Duration {
	return min(100*time.Millisecond<<min(attempt, 4), time.Second)
}

// ping asks any broker whether it is there.
func (c *connection) ping(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := c.client.Ping(asked)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.explainConnect(err)
}

// watch pings until the cluster is gone or ctx is done.
func (c *connection) watch(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := c.ping(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		case <-c.ended:
			return errClosed
		case <-ctx.Done():
			return nil
		}
	}
}

// request bounds a question to the cluster.
func (c *connection) request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, 2*requestTimeout,
		delivery.RetryAfter(errors.New("the brokers at "+c.brokers+" did not answer within "+(2*requestTimeout).String()), 0))
}

// close says farewell, for a second at most. Without that bound: a member of
// the group dies, the group waits 45 seconds for it, this one has asked to join
// and is stopped, and the client waits with the group for the answer.
func (c *connection) close() {
	c.closing.Do(func() {
		close(c.ended)
		defer c.drop()
		defer time.AfterFunc(closeTimeout, c.drop).Stop()
		c.client.CloseAllowingRebalance()
	})
}

// dials keeps the last error of a connection attempt: the client's own error
// may be about what it tried after that.
type dials struct {
	mu     sync.Mutex
	broker string
	err    error
}

var _ kgo.HookBrokerConnect = (*dials)(nil)

// OnBrokerConnect is called by the client after each attempt.
func (d *dials) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.err = nil
		return
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	d.err, d.broker = err, net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
}

func (d *dials) last() (broker string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broker, d.err
}
