// Package broker runs a NATS server with JetStream as a process of its own,
// so that it can be killed: one side starts and stops that process, the other
// is what runs within it. It listens on the loopback alone, and refuses to be
// used for anything that must last.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pg-tide/pg-tide/internal/process"
)

// Command is the hidden subcommand that calls Serve.
const Command = "broker"

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
)

// Serve runs a server with a configuration file until ctx ends.
func Serve(ctx context.Context, config string) error {
	options, err := server.ProcessConfigFile(config)
	if err != nil {
		return fmt.Errorf("read the configuration of NATS: %w", err)
	}
	options.NoSigs = true
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("set up NATS: %w", err)
	}
	s.ConfigureLogger()
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return fmt.Errorf("start NATS: not ready after %s", startTimeout)
	}
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// Version is that of the server.
const Version = server.VERSION

// Broker is a server in a process of its own.
type Broker struct {
	program, config string
	port            int
	output          io.Writer
	process         *process.Process
}

// Options say what server to prepare.
type Options struct {
	// Program is a pg-tide that knows Command.
	Program string
	// Name is the server's.
	Name string
	// Dir gets its configuration, Store its data.
	Dir, Store string
	// MaxPayload is the largest message that it takes, in bytes; 0 leaves
	// NATS's own limit.
	MaxPayload int
	// Output gets its log.
	Output io.Writer
}

// New prepares a server on a free port.
func New(ctx context.Context, o Options) (*Broker, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a place for NATS: %w", err)
	}
	b := &Broker{program: o.Program, config: filepath.Join(o.Dir, "nats.conf"), port: port, output: o.Output}
	text := fmt.Sprintf("host: 127.0.0.1\nport: %d\nserver_name: %q\nlogtime: true\njetstream { store_dir: %q, max_file: 32G, max_mem: 256M }\n",
		port, o.Name, o.Store)
	if o.MaxPayload > 0 {
		text += fmt.Sprintf("max_payload: %d\n", o.MaxPayload)
	}
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration of NATS: %w", err)
	}
	return b, nil
}

func freePort(ctx context.Context) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return 0, fmt.Errorf("free the port: %w", err)
	}
	return port, nil
}

// Address is where clients connect, as host and port.
func (b *Broker) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

// URL is where clients connect.
func (b *Broker) URL() string { return "nats://" + b.Address() }

// Start starts the server, again on the same port and data after Kill or
// Stop, and returns when it serves.
func (b *Broker) Start(ctx context.Context) error {
	p, err := process.Start(ctx, process.Options{
		Program: b.program, Arguments: []string{Command, "--config-file", b.config}, Output: b.output,
	})
	if err != nil {
		return err
	}
	b.process = p
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !greeted(ctx, b.Address()) {
		select {
		case <-p.Done():
			return errors.New("NATS ended while starting; its log says why")
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("NATS was not ready after %s", startTimeout), context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// greeted says whether the server sends its first line.
func greeted(ctx context.Context, address string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // only the greeting was wanted
	if conn.SetReadDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	greeting := make([]byte, 4)
	_, err = io.ReadFull(conn, greeting)
	return err == nil && string(greeting) == "INFO"
}

// Kill ends the server by SIGKILL.
func (b *Broker) Kill() {
	if b.process != nil {
		b.process.Kill()
	}
}

// Stop ends the server in good order.
func (b *Broker) Stop() error {
	if b.process == nil {
		return nil
	}
	return b.process.Terminate(stopTimeout)
}
