package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// relayChannel carries the names of pipelines that changed; the other
	// channel those of outboxes that somebody published to while a relay slept.
	relayChannel = "tide_relay"
	// quietTime is how long the connection may be silent before it is tried.
	quietTime = 15 * time.Second
	// commandTimeout bounds a command; a connection that is slower is given up.
	commandTimeout = 2 * time.Second
	// reconnectPause is between two attempts to connect.
	reconnectPause = 500 * time.Millisecond
	// configPollPause is between two looks at the configuration where nobody
	// can be notified.
	configPollPause = 500 * time.Millisecond
)

// errNotDirect says that sessions do not stay with one server process.
var errNotDirect = errors.New("the connection goes through a pooler")

// waker owns the one connection that listens and that holds the locks of
// sleepers. They share it on purpose: a listener learns at once that its
// connection is gone, and with it that the locks are. With a connection of
// its own a lost lock would show only at the next attempt to wake.
type waker struct {
	catalog *Catalog
	config  *pgx.ConnConfig
	log     *slog.Logger
	gate    *Gate
	cancel  context.CancelFunc
	done    chan struct{}

	mu sync.Mutex
	// commands wait for the connection; interrupt ends its waiting for
	// notifications so that they can run. interrupt is nil when it is not waiting.
	commands  []command
	interrupt context.CancelFunc
	// connected says that commands are being taken.
	connected bool
}

// command runs on the connection between two notifications.
type command struct {
	run  func(ctx context.Context, conn *pgx.Conn) error
	done chan error
}

// startWaker starts what lives until stop, and not as long as Open's context.
func startWaker(ctx context.Context, config *pgx.ConnConfig, c *Catalog) *waker {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &waker{catalog: c, config: config.Copy(), log: c.log, cancel: cancel, done: make(chan struct{})}
	w.gate = newGate(w)
	go func() {
		defer close(w.done)
		w.loop(ctx)
	}()
	return w
}

func (w *waker) stop() {
	w.cancel()
	<-w.done
}

// loop keeps a connection until the end, and says once when it has to poll.
func (w *waker) loop(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		err := w.session(ctx)
		w.disconnected()
		if ctx.Err() != nil {
			return
		}
		if said != err.Error() {
			said = err.Error()
			w.log.Warn("polling instead of being notified", "reason", said)
		}
		w.catalog.signalChange()
		if errors.Is(err, errNotDirect) {
			w.pollConfiguration(ctx)
			return
		}
		pause(ctx, reconnectPause)
	}
}

// session connects, listens and serves until the connection is lost.
func (w *waker) session(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return w.catalog.explain("listen for notifications", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // whatever it says, the connection is gone
	}()
	w.mu.Lock()
	w.connected = true
	w.mu.Unlock()
	w.gate.wakeAll()
	w.catalog.signalChange()
	for {
		if err := w.serve(ctx, conn); err != nil {
			return w.catalog.explain("listen for notifications", err)
		}
	}
}

func (w *waker) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, w.config)
	if err != nil {
		return nil, err
	}
	var backend uint32
	var prepared string
	err = conn.QueryRow(ctx, listenCheckSQL).Scan(&backend, &prepared)
	if err == nil && !isDirect(conn, backend) {
		err = fmt.Errorf("%w, where neither LISTEN nor a session's locks hold (point --postgres-url at the server itself for wake-ups within milliseconds)", errNotDirect)
	}
	for _, listen := range []string{listenOutboxSQL, listenRelaySQL} {
		if err == nil {
			_, err = conn.Exec(ctx, listen)
		}
	}
	if err != nil {
		_ = conn.Close(ctx) // the error that matters is the first
		return nil, err
	}
	w.gate.setNotified(prepared == "0")
	return conn, nil
}

// serve runs waiting commands, or waits for one notification.
func (w *waker) serve(ctx context.Context, conn *pgx.Conn) error {
	w.mu.Lock()
	if len(w.commands) > 0 {
		next := w.commands[0]
		w.commands = w.commands[1:]
		w.mu.Unlock()
		running, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		err := next.run(running, conn)
		next.done <- err
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	w.interrupt = cancel
	w.mu.Unlock()

	notification, err := conn.WaitForNotification(waiting)
	w.mu.Lock()
	w.interrupt = nil
	w.mu.Unlock()
	switch {
	case err == nil:
		w.dispatch(notification, conn.PgConn().PID())
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(waiting.Err(), context.Canceled) && !conn.IsClosed():
		return nil // interrupted by a command
	case errors.Is(waiting.Err(), context.DeadlineExceeded) && !conn.IsClosed():
		trying, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		return conn.Ping(trying)
	}
	return err
}

// dispatch wakes whom a notification is for. This relay's own to other
// relays' sleepers is not for its own sleepers.
func (w *waker) dispatch(n *pgconn.Notification, own uint32) {
	switch {
	case n.Channel == relayChannel:
		w.catalog.signalChange()
	case n.PID != own:
		w.gate.wake(n.Payload)
	}
}

// do runs a command on the connection and waits for it, at most for
// commandTimeout a command. false means that there is no connection now.
func (w *waker) do(run func(ctx context.Context, conn *pgx.Conn) error) bool {
	c := command{run: run, done: make(chan error, 1)}
	w.mu.Lock()
	if !w.connected {
		w.mu.Unlock()
		return false
	}
	w.commands = append(w.commands, c)
	if w.interrupt != nil {
		w.interrupt()
	}
	w.mu.Unlock()
	return <-c.done == nil
}

// disconnected forgets the locks, which ended with the session, and wakes
// everybody: nobody may sleep on a lock that is not held.
func (w *waker) disconnected() {
	w.mu.Lock()
	w.connected = false
	waiting := w.commands
	w.commands = nil
	w.mu.Unlock()
	for _, c := range waiting {
		c.done <- errors.New("disconnected")
	}
	w.gate.lostAll()
}

// pollConfiguration signals changes where nobody can be notified of them.
func (w *waker) pollConfiguration(ctx context.Context) {
	last := ""
	for pause(ctx, configPollPause) {
		var now string
		if err := w.catalog.pool.QueryRow(ctx, configVersionSQL).Scan(&now); err == nil && now != last {
			last = now
			w.catalog.signalChange()
		}
	}
}

// pause waits and returns false when the context ended before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
