package world

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/run"
	"github.com/pg-tide/pg-tide/internal/torture/disk"
)

const connectTimeout = 5 * time.Second

// diskBytes is the size of the broker's own disk. It is memory, of which it
// takes what it holds: about a gigabyte for half an hour.
const diskBytes = 16 << 30

// maxPayload is the largest message that the broker takes, in bytes.
const maxPayload = 16 << 10

// inboxRemembers is how many retentions of the outboxes an inbox keeps: a
// redelivery must find it remembering.
const inboxRemembers = 5

// Options say what to build.
type Options struct {
	// Program is the pg-tide that is tortured; Environment is added for its relays.
	Program     string
	Environment []string
	// Major is the PostgreSQL to take, Fetched prefers one of our own over the
	// machine's; BinDir, where given, is the folder of its programs.
	Major   int
	Fetched bool
	BinDir  string
	// Dir gets logs and the broker's data.
	Dir string
	// Relays is how many each service has, Lanes how many a pipeline.
	Relays, Lanes int
	// Pipelines is how many the first publishing service has; all but one idle.
	Pipelines int
	// Retention is that of the outboxes; inboxes keep messages, and remember
	// event ids, several times as long. 0 leaves the defaults.
	Retention time.Duration
	// OwnDisk puts the broker's data on a disk that can be full.
	OwnDisk bool
	// Bus is BusNATS or BusKafka.
	Bus     string
	Notices io.Writer
}

// World is the whole bus.
type World struct {
	Clusters []*Cluster
	Bus      Bus
	// Disk is under the broker's data; nil without OwnDisk.
	Disk *disk.Disk
	// BrokerBusy is held by whoever stops and starts the broker.
	BrokerBusy sync.Mutex
	// FullBusy is held by whoever leaves the stream no room.
	FullBusy sync.Mutex
	Services []*Service

	options Options
}

// Build starts everything; the relays run when it returns. What was built is
// closed by Close also when it returns an error.
func Build(ctx context.Context, o Options) (*World, error) {
	w := &World{options: o}
	return w, w.build(ctx)
}

func (w *World) build(ctx context.Context) error {
	if err := w.startBus(ctx); err != nil {
		return err
	}
	// Where transactions may be prepared publishers cannot notify, so one
	// server is of each sort.
	w.Clusters = make([]*Cluster, 2)
	start := func(n int, name string, prepares bool) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			w.Clusters[n], err = startCluster(ctx, w.options, name, prepares)
			return err
		}
	}
	if err := run.Together(ctx, start(0, "first", false), start(1, "second", true)); err != nil {
		return err
	}
	w.Services = services(w.Clusters[0], w.Clusters[1], w.Bus)
	var work []func(context.Context) error
	for _, s := range w.Services {
		s.Retention = w.options.Retention
		if s.Inbox != "" {
			s.Retention *= inboxRemembers
		}
		work = append(work, func(ctx context.Context) error { return w.startService(ctx, s) })
	}
	return run.Together(ctx, work...)
}

// startService makes a service's database and starts its relays.
func (w *World) startService(ctx context.Context, s *Service) error {
	idle := 0
	if s.Outbox != "" && !s.Cluster.Prepares {
		idle = w.options.Pipelines - 1
	}
	if err := s.setUp(ctx, w.options.Lanes, idle); err != nil {
		return err
	}
	for n := range w.options.Relays {
		r, err := w.newRelay(ctx, s, n)
		if err != nil {
			return err
		}
		s.Relays = append(s.Relays, r)
		if err := r.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Relays are the relays of all services.
func (w *World) Relays() []*Relay {
	var all []*Relay
	for _, s := range w.Services {
		all = append(all, s.Relays...)
	}
	return all
}

// Publishers and Consumers are the services with an outbox, with an inbox.
func (w *World) Publishers() []*Service {
	return w.filter(func(s *Service) bool { return s.Outbox != "" })
}

// Consumers are the services with an inbox.
func (w *World) Consumers() []*Service {
	return w.filter(func(s *Service) bool { return s.Inbox != "" })
}

func (w *World) filter(want func(*Service) bool) []*Service {
	var some []*Service
	for _, s := range w.Services {
		if want(s) {
			some = append(some, s)
		}
	}
	return some
}

// Heal brings everything back that was stopped, cut or slowed.
func (w *World) Heal(ctx context.Context) error {
	var problems []error
	for _, c := range w.Clusters {
		problems = append(problems, c.Revive(ctx))
	}
	for _, r := range w.Relays() {
		problems = append(problems, r.Heal(ctx))
	}
	return errors.Join(problems...)
}

// KeepLogs copies the logs of PostgreSQL beside the others.
func (w *World) KeepLogs() error {
	var problems []error
	for _, c := range w.Clusters {
		if c == nil {
			continue
		}
		text, err := os.ReadFile(c.Server.Log)
		if err == nil {
			err = os.WriteFile(filepath.Join(w.options.Dir, "postgres-"+c.Name+".log"), text, 0o644)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// Close ends everything. It waits until all of it is gone.
func (w *World) Close(ctx context.Context) error {
	var work []func(context.Context) error
	for _, r := range w.Relays() {
		work = append(work, func(context.Context) error { return r.close() })
	}
	for _, c := range w.Clusters {
		if c != nil {
			work = append(work, func(context.Context) error { return c.Server.Close() })
		}
	}
	err := run.Together(context.WithoutCancel(ctx), work...)
	if w.Bus != nil {
		err = errors.Join(err, w.Bus.close())
	}
	if w.Disk != nil {
		w.Disk.Close()
	}
	return err
}
