// Package natstest runs NATS servers with JetStream for tests, each as a
// process of its own: it can be killed, and its races are not taken for ours.
// It serves tests only and refuses to be used on anything but the loopback
// address.
package natstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const startTimeout = 20 * time.Second

// Options say how a server is set up. The zero value is a server with
// JetStream, without login and without TLS.
type Options struct {
	// NoJetStream leaves JetStream off.
	NoJetStream bool
	// Login is what the server demands; see Users, Token, NKey and Operator.
	Login string
	// TLS makes the server demand TLS; MutualTLS also a client certificate.
	TLS       *Certificates
	MutualTLS bool
	// MaxPayload is the largest message; 0 leaves the server's default.
	MaxPayload int
	// StoreDir is where JetStream keeps its files; empty means among those of the
	// test.
	StoreDir string
	// Extra is added to the server's configuration as it is.
	Extra string
}

// Server is a running, or stopped, server.
type Server struct {
	port    int
	scheme  string
	config  string
	store   string
	running *process
}

// Start runs a server until the test ends.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	s, err := New(t.TempDir(), options)
	if err == nil {
		err = s.Run()
	}
	if err != nil {
		t.Fatalf("start a NATS server: %v", err)
	}
	t.Cleanup(s.Stop)
	return s
}

// New prepares a server that keeps everything in dir, on a free port.
func New(dir string, options Options) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{port: port, scheme: "nats", config: filepath.Join(dir, "nats.conf"), store: options.StoreDir}
	if s.store == "" {
		s.store = filepath.Join(dir, "jetstream")
	}
	if options.TLS != nil {
		s.scheme = "tls"
	}
	return s, os.WriteFile(s.config, []byte(options.text(port, s.store)), 0o600)
}

func (o *Options) text(port int, store string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "host: 127.0.0.1\nport: %d\nserver_name: %q\n", port, "n"+strconv.Itoa(port))
	if !o.NoJetStream {
		fmt.Fprintf(&b, "jetstream { store_dir: %q, max_file: 16G, max_mem: 256M }\n", store)
	}
	if o.MaxPayload > 0 {
		fmt.Fprintf(&b, "max_payload: %d\n", o.MaxPayload)
	}
	if o.TLS != nil {
		fmt.Fprintf(&b, "tls { cert_file: %q, key_file: %q, ca_file: %q, verify: %t, timeout: 5 }\n",
			o.TLS.ServerCert, o.TLS.ServerKey, o.TLS.CA, o.MutualTLS)
	}
	return b.String() + o.Login + "\n" + o.Extra + "\n"
}

// freePort finds a port below those that the system gives to clients: one of
// these would be taken by anybody's connection while the server is down.
func freePort() (int, error) {
	const lowest, highest, attempts = 12000, 32000, 100
	var taken error
	for range attempts {
		port := lowest + rand.IntN(highest-lowest)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
		taken = err
	}
	return 0, fmt.Errorf("find a free port: %w", taken)
}

// Run starts the server, again on the same port and data after Stop or Kill.
func (s *Server) Run() error {
	var err error
	s.running, err = runProcess(s.config, s.port)
	return err
}

// URL is where clients connect.
func (s *Server) URL() string { return fmt.Sprintf("%s://127.0.0.1:%d", s.scheme, s.port) }

// Port is the port that clients connect to.
func (s *Server) Port() int { return s.port }

// StoreDir is where JetStream keeps its files.
func (s *Server) StoreDir() string { return s.store }

// Stop ends the server in good order and keeps its data.
func (s *Server) Stop() {
	if s.running != nil {
		s.running.stop()
		s.running = nil
	}
}

// Kill ends the server at once, by SIGKILL.
func (s *Server) Kill() {
	if s.running != nil {
		s.running.kill()
		s.running = nil
	}
}

// Restart stops and runs the server again.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	if err := s.Run(); err != nil {
		t.Fatalf("restart the NATS server: %v", err)
	}
}

// JetStream connects to the server until the test ends.
func (s *Server) JetStream(t testing.TB, options ...natsgo.Option) jetstream.JetStream {
	t.Helper()
	options = append([]natsgo.Option{natsgo.MaxReconnects(-1), natsgo.ReconnectWait(20 * time.Millisecond)}, options...)
	nc, err := natsgo.Connect(s.URL(), options...)
	if err != nil {
		t.Fatalf("connect to %s: %v", s.URL(), err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("use JetStream: %v", err)
	}
	return js
}

// Eventually polls until condition holds, and fails the test when it does not in time.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
