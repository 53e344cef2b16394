package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	keepAlive         = 2 * time.Minute
	// shutTimeout is how long answers that were given may take to be sent.
	shutTimeout = time.Second
	maxHeader   = 64 << 10
)

// Hub is what the sources of one relay share: the addresses that they listen on.
type Hub struct {
	mu    sync.Mutex
	doors map[string]*door
}

// NewHub makes a hub that listens nowhere yet.
func NewHub() *Hub { return &Hub{doors: map[string]*door{}} }

// door is one address. It is shut when its last source leaves.
type door struct {
	certificate, key string
	server           *http.Server
	address          net.Addr
	served           chan struct{}

	mu sync.Mutex
	// routes has the sources by their paths; nil for one that left and may
	// come back, which its senders wait for.
	routes map[string]*Source
}

// join opens the source's address, or the door that is there already.
func (h *Hub) join(ctx context.Context, s *Source) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.doors[s.settings.listen]
	if at == nil {
		var err error
		if at, err = open(ctx, &s.settings); err != nil {
			return err
		}
		h.doors[s.settings.listen] = at
	}
	if at.certificate != s.settings.certificate || at.key != s.settings.key {
		return delivery.Misconfigured(fmt.Errorf("another pipeline listens on %s with another certificate; give both the same, or another address", s.settings.listen))
	}
	return at.add(s)
}

// leave takes the source away, and shuts a door that nobody is behind.
func (h *Hub) leave(ctx context.Context, s *Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.doors[s.settings.listen]
	if at != nil && at.remove(s) {
		delete(h.doors, s.settings.listen)
		at.shut(ctx)
	}
}

// Address returns where a listening address led, for one with port 0; nil when
// nobody listens.
func (h *Hub) Address(listen string) net.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at := h.doors[listen]; at != nil {
		return at.address
	}
	return nil
}

func open(ctx context.Context, s *sourceSettings) (*door, error) {
	d := &door{certificate: s.certificate, key: s.key, served: make(chan struct{}), routes: map[string]*Source{}}
	var config *tls.Config
	if s.certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.certificate, s.key)
		if err != nil {
			return nil, delivery.Misconfigured(fmt.Errorf("certificate and key of the webhook: %w", err))
		}
		config = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.listen)
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is taken by another process; stop it, or give another as key %q", s.listen, "listen")
	case errors.As(err, &op) && ctx.Err() == nil:
		return nil, delivery.Misconfigured(fmt.Errorf("listen on %s (key %q): %w", s.listen, "listen", op.Err))
	case err != nil:
		return nil, err
	}
	d.address = listener.Addr()
	d.server = &http.Server{
		Handler: d, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, IdleTimeout: keepAlive,
	}
	go func() {
		defer close(d.served)
		if config != nil {
			listener = tls.NewListener(listener, config)
		}
		if err := d.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.fail(fmt.Errorf("listen on %s: %w", d.address, err))
		}
	}()
	return d, nil
}

// fail ends the sessions of all sources: a door that takes nothing must be opened anew.
func (d *door) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, source := range d.routes {
		if source != nil {
			source.end(err)
		}
	}
}

func (d *door) add(s *Source) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if there := d.routes[s.settings.path]; there != nil && there != s {
		return taken(s.settings.path, s.settings.listen, there.pipeline)
	}
	d.routes[s.settings.path] = s
	return nil
}

// remove says whether nobody is left.
func (d *door) remove(s *Source) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.routes[s.settings.path] == s {
		d.routes[s.settings.path] = nil
	}
	for _, source := range d.routes {
		if source != nil {
			return false
		}
	}
	return true
}

// ServeHTTP finds the source by the path.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	source, known := d.routes[r.URL.Path]
	d.mu.Unlock()
	switch {
	case source != nil:
		source.ServeHTTP(w, r)
	case known:
		later(w, http.StatusServiceUnavailable, "the inbox cannot be reached")
	default:
		say(w, http.StatusNotFound, "nobody takes events at this path")
	}
}

// shut lets the answers that were given be sent, and closes all connections.
func (d *door) shut(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutTimeout)
	defer cancel()
	if d.server.Shutdown(ctx) != nil {
		_ = d.server.Close() // what is cut off comes again
	}
	<-d.served
}
