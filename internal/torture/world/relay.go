package world

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/process"
	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

// brokerVariable is how a pipeline's configuration names the broker: each relay
// reaches it through a proxy of its own.
const brokerVariable = "TORTURE_BROKER"

// clockVariable names the file that says how far off a relay's wall clock is;
// only a relay that was built for it looks.
const clockVariable = "PG_TIDE_CLOCK_FILE"

// Relay is one of a service's relays, through all the lives of its process.
type Relay struct {
	Name string
	// Database and Broker are the proxies that it connects through.
	Database, Broker *proxy.Proxy
	// DatabaseBusy, BrokerBusy, ClockBusy and Busy are held by whoever does
	// something to its connections, its clock or its process.
	DatabaseBusy, BrokerBusy, ClockBusy, Busy sync.Mutex
	Log                                       *Log

	clock       string
	program     string
	environment []string

	mu      sync.Mutex
	process *process.Process
	started time.Time
}

func (w *World) newRelay(ctx context.Context, s *Service, n int) (*Relay, error) {
	r := &Relay{Name: fmt.Sprintf("%s-%d", s.Name, n+1), program: w.options.Program}
	r.clock = filepath.Join(w.options.Dir, "clock-"+r.Name)
	var err error
	if r.Log, err = NewLog(filepath.Join(w.options.Dir, "relay-"+r.Name+".log")); err != nil {
		return nil, err
	}
	u, err := url.Parse(s.DSN())
	if err != nil {
		return nil, fmt.Errorf("read the address of %s: %w", s.Name, err)
	}
	if r.Database, err = proxy.Start(ctx, u.Host); err != nil {
		return nil, err
	}
	var address string
	if r.Broker, address, err = w.Bus.way(ctx); err != nil {
		r.Database.Close()
		return nil, err
	}
	u.Host = r.Database.Address()
	r.environment = append([]string{
		"PG_TIDE_POSTGRES_URL=" + u.String(),
		"PG_TIDE_HTTP_ADDR=127.0.0.1:0",
		"PG_TIDE_LOG_FORMAT=json",
		brokerVariable + "=" + address,
		clockVariable + "=" + r.clock,
	}, w.options.Environment...)
	return r, nil
}

// Start starts the process, if none runs.
func (r *Relay) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil && r.process.Running() {
		return nil
	}
	r.Log.begin()
	p, err := process.Start(ctx, process.Options{Program: r.program, Environment: r.environment, Output: r.Log})
	if err != nil {
		return fmt.Errorf("start the relay %s: %w", r.Name, err)
	}
	r.process, r.started = p, time.Now()
	return nil
}

// Process is the present process, running or not.
func (r *Relay) Process() *process.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

// PID is the number of the running process, or 0.
func (r *Relay) PID() int {
	if p := r.Process(); p != nil && p.Running() {
		return p.PID()
	}
	return 0
}

// SetClock sets the wall clock of the process, and of those that follow it, off
// by so much.
func (r *Relay) SetClock(by time.Duration) error {
	fresh := r.clock + ".new"
	if err := os.WriteFile(fresh, fmt.Appendf(nil, "%d\n", int64(by/time.Second)), 0o644); err != nil {
		return fmt.Errorf("set the clock of %s: %w", r.Name, err)
	}
	return os.Rename(fresh, r.clock)
}

// Heal undoes whatever was done to the connections, the clock and the process.
func (r *Relay) Heal(ctx context.Context) error {
	if err := r.SetClock(0); err != nil {
		return err
	}
	r.Database.Set(proxy.State{})
	r.Broker.Set(proxy.State{})
	if p := r.Process(); p != nil && p.Running() {
		return p.Thaw()
	}
	return r.Start(ctx)
}

func (r *Relay) close() error {
	if p := r.Process(); p != nil {
		p.Kill()
	}
	r.Database.Close()
	r.Broker.Close()
	return r.Log.Close()
}
