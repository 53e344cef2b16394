package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
)

const (
	connectTimeout = 5 * time.Second
	requestTimeout = 5 * time.Second
	writeTimeout   = 3 * time.Second
	// A dead peer is noticed after two pings.
	pingInterval = 5 * time.Second
	// The engine bounds what is outstanding; this only guards the client's memory.
	maxPendingPublishes = 64 << 10
)

// errNotPermitted ends a question that the user may not ask and need not.
var errNotPermitted = errors.New("the broker does not permit the question")

var errClosed = errors.New("the connection was closed by the relay")

// connection is one session with the broker. The client neither reconnects
// nor resends: what it had buffered could overtake what the engine sends
// again, so the session ends with the connection.
type connection struct {
	nc     *natsgo.Conn
	js     jetstream.JetStream
	broker string
	// owns says whether a sink may still publish; nil asks nobody.
	owns func() error
	// waiting counts bytes that an ordered sink was given and has not stored yet.
	waiting atomic.Int64

	// ended is closed once cause is set: the session is over.
	ended chan struct{}
	once  sync.Once
	cause error

	mu sync.Mutex
	// optional is a subject that the user may lack the right to publish to:
	// then the session goes on, and refuse ends the question.
	optional string
	refuse   context.CancelCauseFunc
}

// tolerate lets the session survive that publishing to subject is refused: the
// context that it returns ends then, with the cause errNotPermitted.
func (c *connection) tolerate(ctx context.Context, subject string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.optional, c.refuse = subject, cancel
	return ctx, func() { cancel(nil) }
}

// tolerated reports whether the refusal is one that the session survives.
func (c *connection) tolerated(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := quoted.FindStringSubmatch(err.Error())
	if c.refuse == nil || found == nil || found[3] != c.optional {
		return false
	}
	c.refuse(errNotPermitted)
	return true
}

// connect logs in. It returns a sentence with a verdict when that cannot be.
func connect(ctx context.Context, a *address, name string) (*connection, error) {
	c := &connection{broker: a.String(), ended: make(chan struct{})}
	options, err := a.options()
	if err != nil {
		return nil, err
	}
	dial := &dialer{ctx: ctx}
	options = append(options,
		natsgo.Name(name),
		natsgo.NoReconnect(),
		natsgo.ReconnectBufSize(-1),
		natsgo.Timeout(connectTimeout),
		// Who hangs takes nothing once the buffers of the network are full, and
		// the client then waits for a minute with everything locked: neither the
		// end of a context nor Close would get through.
		natsgo.FlusherTimeout(writeTimeout),
		natsgo.PingInterval(pingInterval),
		natsgo.MaxPingsOutstanding(2),
		natsgo.SetCustomDialer(dial),
		natsgo.ErrorHandler(c.onError),
		natsgo.ClosedHandler(c.onClosed),
	)
	if fault.Mutant(fault.ClientResends) {
		options = resending(ctx, dial, options)
	}
	c.nc, err = natsgo.Connect(join(a.urls), options...)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, explainConnect(c.broker, err, dial.lastError())
	}
	c.js, err = jetstream.New(c.nc,
		jetstream.WithPublishAsyncMaxPending(maxPendingPublishes),
		jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		c.close()
		return nil, fmt.Errorf("set up JetStream: %w", err)
	}
	return c, nil
}

// request bounds a question to the broker, and ends it when the session ends:
// a question that is not permitted gets no answer, only an error on the side.
func (c *connection) request(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout,
		fmt.Errorf("the broker at %s did not answer within %s", c.broker, requestTimeout))
	ctx, cancelCause := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-c.ended:
			cancelCause(c.cause)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		cancelCause(nil)
		<-done
	}
}

// answer replaces the error of a request that was cut short by why it was.
func (c *connection) answer(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if over := c.over(nil); over != nil {
		return over
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	return err
}

// mayPublish fails when the relay may have been superseded.
func (c *connection) mayPublish() error {
	if c.owns == nil {
		return nil
	}
	return c.owns()
}

// over is why the session ended, or err while it has not.
func (c *connection) over(err error) error {
	select {
	case <-c.ended:
		return c.cause
	default:
		return err
	}
}

func (c *connection) end(err error) {
	c.once.Do(func() {
		c.cause = err
		close(c.ended)
	})
}

// atLeast reports whether the server is of that version or newer.
func (c *connection) atLeast(major, minor int) bool {
	first, rest, _ := strings.Cut(c.nc.ConnectedServerVersion(), ".")
	second, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	return errA == nil && errB == nil && (a > major || (a == major && b >= minor))
}

func (c *connection) close() {
	c.end(errClosed)
	c.nc.Close()
}

func (c *connection) onError(_ *natsgo.Conn, sub *natsgo.Subscription, err error) {
	switch {
	case errors.Is(err, natsgo.ErrPermissionViolation) && c.tolerated(err):
	case errors.Is(err, natsgo.ErrPermissionViolation):
		c.end(misconfigured("the broker at %s does not permit it: %s; grant the relay's user what docs/sinks/nats.md and docs/sources/nats.md list", c.broker, permissionText(err)))
	case errors.Is(err, natsgo.ErrSlowConsumer):
		c.end(errors.New("messages came faster than they were taken and were dropped by the client; starting over"))
	case sub == nil && errors.Is(err, natsgo.ErrAuthExpired):
		c.end(misconfigured("the credentials for %s have expired; renew them", c.broker))
	}
}

func (c *connection) onClosed(nc *natsgo.Conn) {
	err := nc.LastError()
	if err == nil {
		err = errors.New("closed by the broker")
	}
	switch {
	case errors.Is(err, natsgo.ErrAuthRevoked), errors.Is(err, natsgo.ErrAuthExpired), errors.Is(err, natsgo.ErrAuthorization):
		c.end(explainConnect(c.broker, err, nil))
	default:
		c.end(delivery.RetryAfter(fmt.Errorf("lost the connection to the broker at %s: %w", c.broker, err), 0))
	}
}

// dialer lets a session that is being closed stop waiting, and keeps the
// reason that the client throws away.
type dialer struct {
	ctx context.Context // of Open alone: no dial happens later, for the client does not reconnect
	mu  sync.Mutex
	err error
}

// Dial connects to one address.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	direct := net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	conn, err := direct.DialContext(d.ctx, network, address)
	if err != nil {
		d.mu.Lock()
		d.err = err
		d.mu.Unlock()
	}
	return conn, err
}

func (d *dialer) lastError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}
