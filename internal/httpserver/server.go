// Package httpserver answers what keeps a relay running asks: metrics, whether
// the process lives, whether it is ready. It refuses to know why it is or is
// not: it asks a function.
package httpserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// Readiness is what /readyz answers.
type Readiness struct {
	Ready bool `json:"ready"`
	// Reasons say in words what is missing; empty when ready.
	Reasons []string `json:"reasons"`
}

// Options configure a server.
type Options struct {
	// Address to listen on, host:port.
	Address string
	// NextFree takes the next free port when that of Address is taken.
	NextFree bool
	// Metrics answers /metrics.
	Metrics http.Handler
	// Ready is asked for each /readyz; it must answer from memory.
	Ready  func() Readiness
	Logger *slog.Logger
}

// Server is a listening server.
type Server struct {
	listener net.Listener
	http     *http.Server
	served   chan error
}

const (
	// portsTried is how many ports are looked at from the default on: more
	// relays than that on one machine name their addresses.
	portsTried        = 100
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = time.Minute
)

// Start listens and answers. When it returns, connections are accepted.
func Start(ctx context.Context, o Options) (*Server, error) {
	listener, err := listen(ctx, o.Address, o.NextFree)
	if err != nil {
		return nil, err
	}
	s := &Server{
		listener: listener,
		http: &http.Server{
			Handler:           routes(o),
			ReadHeaderTimeout: readHeaderTimeout,
			IdleTimeout:       idleTimeout,
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		},
		served: make(chan error, 1),
	}
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Stop ends the server: requests being answered may finish until ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop the HTTP server: %w", err), s.http.Close())
	}
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func routes(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", o.Metrics)
	mux.HandleFunc("GET /livez", alive)
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready := o.Ready()
		if ready.Reasons == nil {
			ready.Reasons = []string{}
		}
		status := http.StatusOK
		if !ready.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, ready)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, "pg-tide\n\n/metrics\n/livez\n/readyz\n")
	})
	return mux
}

// alive answers whenever the process can answer at all: a relay whose
// database is away must not be restarted for it.
func alive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]bool{"alive": true})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client is gone; there is nobody to tell
}

// listen opens the address, or with nextFree one of the ports after it.
func listen(ctx context.Context, address string, nextFree bool) (net.Listener, error) {
	host, port, err := split(address)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	for try := range portsTried {
		listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port+try)))
		switch {
		case err == nil:
			return listener, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("listen on the HTTP address %q: %w", address, cause(err))
		case !nextFree:
			return nil, fmt.Errorf("the HTTP address %q is taken by another process: stop it, or give another --http-addr", address)
		}
	}
	return nil, fmt.Errorf("the HTTP ports %d to %d are all taken: give a free one with --http-addr", port, port+portsTried-1)
}

func split(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("the HTTP address is %q: it must be host:port, such as 127.0.0.1:8433 or :8433", address)
	}
	return host, port, nil
}

// cause is an error of the network without the address, which stands before it.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
