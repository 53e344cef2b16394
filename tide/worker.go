package tide

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// WorkerConfig says what a worker works and how.
type WorkerConfig struct {
	// Inbox is the inbox to work.
	Inbox string
	// Name is shown as who has a message; empty means host, process and a random part.
	Name string
	// Concurrency is how many messages are in work at once; 0 means 10.
	Concurrency int
	// Lease is how long a message is this worker's after it was last heard of;
	// at a third of it the lease is extended. 0 means 30 seconds.
	Lease time.Duration
	// Prefetch is how many messages may be claimed and not done yet. Fewer are
	// when handlers are slow: what takes more than a quarter of a second to get
	// through is left to others. 0 means 2000, and it is never less than twice the
	// concurrency.
	Prefetch int
	// PollInterval is how often the inbox is looked into when nothing was
	// notified; 0 means a second.
	PollInterval time.Duration
	// PollOnly does without the connection that is notified of new messages.
	PollOnly bool
	// StopTimeout bounds the end: messages not begun are released at once,
	// handlers have four fifths of it until their context ends, and what has not
	// returned when it is over is abandoned. 0 means 5 seconds.
	StopTimeout time.Duration
	// TxOptions are those of the transactions that Tx begins.
	TxOptions pgx.TxOptions
	// Logger is told what goes wrong; nil means slog.Default.
	Logger *slog.Logger
	// Metrics is told what is done; nil means nobody is.
	Metrics Metrics
}

const (
	defaultConcurrency  = 10
	defaultLease        = 30 * time.Second
	defaultPrefetch     = 2000
	mostPrefetch        = 10000
	defaultPollInterval = time.Second
	defaultStopTimeout  = 5 * time.Second
	leastLease          = 10 * time.Millisecond
	mostLease           = 24 * time.Hour
)

// Worker works the messages of one inbox. It is set up by Handle, HandleOthers
// and Use, and then run.
type Worker struct {
	pool       *pgxpool.Pool
	config     WorkerConfig
	handlers   map[string]Handler
	others     Handler
	middleware []Middleware
	problems   []error
	running    atomic.Bool
}

// NewWorker makes a worker. Transactions of handlers come from pool; for claims,
// completions and heartbeats the worker opens up to four connections of its own
// with the pool's settings, so that handlers cannot keep it from its leases.
func NewWorker(pool *pgxpool.Pool, config WorkerConfig) (*Worker, error) {
	c, err := config.complete()
	if err != nil {
		return nil, fmt.Errorf("worker of inbox %q: %w", config.Inbox, err)
	}
	if pool == nil {
		return nil, fmt.Errorf("worker of inbox %q: the pool is nil", config.Inbox)
	}
	return &Worker{pool: pool, config: c, handlers: map[string]Handler{}}, nil
}

// complete fills in the defaults and refuses what makes no sense.
func (c WorkerConfig) complete() (WorkerConfig, error) {
	for _, number := range []struct {
		name  string
		value int64
	}{
		{"Concurrency", int64(c.Concurrency)}, {"Lease", int64(c.Lease)}, {"Prefetch", int64(c.Prefetch)},
		{"PollInterval", int64(c.PollInterval)}, {"StopTimeout", int64(c.StopTimeout)},
	} {
		if number.value < 0 {
			return c, fmt.Errorf("%s is negative; 0 means the default", number.name)
		}
	}
	c.Concurrency = or(c.Concurrency, defaultConcurrency)
	c.Lease = or(c.Lease, defaultLease)
	c.Prefetch = max(or(c.Prefetch, defaultPrefetch), 2*c.Concurrency)
	c.PollInterval = or(c.PollInterval, defaultPollInterval)
	c.StopTimeout = or(c.StopTimeout, defaultStopTimeout)
	c.Name = or(c.Name, workerName())
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("inbox", c.Inbox, "worker", c.Name)
	if c.Metrics == nil {
		c.Metrics = noMetrics{}
	}
	switch {
	case c.Inbox == "":
		return c, errors.New("no Inbox is given; name the one to work")
	case c.Lease < leastLease || c.Lease > mostLease:
		return c, fmt.Errorf("a Lease of %s is not between %s and %s; give the time after which others may have the messages of a worker that died", c.Lease, leastLease, mostLease)
	case c.Prefetch > mostPrefetch:
		return c, fmt.Errorf("a Prefetch of %d (at least twice the Concurrency) is more than %d", c.Prefetch, mostPrefetch)
	}
	return c, nil
}

func or[T comparable](value, otherwise T) T {
	var none T
	if value == none {
		return otherwise
	}
	return value
}

func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// Use adds middleware; what is added first is outermost.
func (w *Worker) Use(middleware ...Middleware) { w.middleware = append(w.middleware, middleware...) }

// HandleOthers has messages worked by handler whose event type no other handles.
// Without it they fail, and are tried again as others are.
func (w *Worker) HandleOthers(handler Handler) {
	if w.others != nil {
		w.problems = append(w.problems, errors.New("HandleOthers was called twice"))
	}
	w.others = handler
}

func (w *Worker) handle(eventType string, handler Handler) {
	if eventType == "" {
		w.problems = append(w.problems, errors.New("a handler was given without an event type; HandleOthers takes the messages of all other types"))
	}
	if w.handlers[eventType] != nil {
		w.problems = append(w.problems, fmt.Errorf("event type %q was given two handlers", eventType))
	}
	w.handlers[eventType] = handler
}

// Run works messages until ctx ends, and then stops within StopTimeout: it
// returns nil, or ErrStopTimeout when handlers had to be abandoned. Before that
// it returns an error only for what waiting does not mend, such as an inbox
// that does not exist. While the database is away it waits.
func (w *Worker) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return fmt.Errorf("the worker of inbox %q runs already", w.config.Inbox)
	}
	defer w.running.Store(false)
	if len(w.handlers) == 0 && w.others == nil {
		return fmt.Errorf("the worker of inbox %q has no handler; give it one with tide.Handle or HandleOthers", w.config.Inbox)
	}
	if err := errors.Join(w.problems...); err != nil {
		return fmt.Errorf("the worker of inbox %q: %w", w.config.Inbox, err)
	}
	control, err := w.control(ctx)
	if err != nil {
		return fmt.Errorf("the worker of inbox %q: %w", w.config.Inbox, err)
	}
	defer control.Close()
	return newShift(ctx, w, control).run(ctx)
}

// controlConnections are for one claim, one completion and one heartbeat at a
// time; the fourth connection listens and is not of the pool.
const controlConnections = 3

// control opens the connections that handlers have no part in. With the pool's
// own, handlers that wait for a transaction could take the last one, and the
// heartbeat that would keep their leases would wait behind them.
func (w *Worker) control(ctx context.Context) (*pgxpool.Pool, error) {
	config := w.pool.Config()
	config.MaxConns, config.MinConns, config.MinIdleConns = controlConnections, 0, 0
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
}

// handler is what works messages of an event type, with all middleware around it.
func (w *Worker) handler(eventType string) Handler {
	h := w.handlers[eventType]
	if h == nil {
		h = w.others
	}
	if h == nil {
		h = func(_ context.Context, m *Message) error {
			return fmt.Errorf("worker %q has no handler for event type %q", w.config.Name, m.Type)
		}
	}
	handler := h
	// Middleware sees a panic as an error; its own are seen to by the worker.
	h = func(ctx context.Context, m *Message) error { return call(ctx, handler, m) }
	for i := len(w.middleware) - 1; i >= 0; i-- {
		h = w.middleware[i](h)
	}
	return h
}
