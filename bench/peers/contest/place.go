package contest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/internal/broker"
	"github.com/pg-tide/pg-tide/internal/process"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

const (
	// subject is the one subject of every stream; Watermill's envelopes have it.
	subject = "peers.events"
	// fillStep is how many events one transaction of a backlog has.
	fillStep = 20_000
	// mostPending is how many acknowledgements our own publisher waits for.
	mostPending = 4000
	// endPatience is how long a process may take to end when asked.
	endPatience = 5 * time.Second
	// logTail is how much of a process's log an error shows.
	logTail = 2 << 10
)

// place is the servers that all contestants use, in turns.
type place struct {
	options  Options
	dir      string
	postgres *throwaway.Server
	admin    *pgx.Conn
	broker   *broker.Broker
	nats     *natsgo.Conn
	js       jetstream.JetStream
	made     int // databases and streams, for their names
}

// open starts the servers with the settings of pg-tide bench, and with what
// logical decoding needs. What it returns is to be closed, also beside an error.
func open(ctx context.Context, o Options) (*place, error) {
	p := &place{options: o}
	var err error
	if p.dir, err = os.MkdirTemp("", "pg-tide-peers-"); err != nil {
		return p, err
	}
	p.postgres, err = throwaway.Start(ctx, throwaway.Options{Durable: true, Notices: o.Progress, Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "8GB", "max_connections": "300", "checkpoint_timeout": "30min",
		"wal_level": "logical",
	}})
	if err != nil {
		return p, err
	}
	if p.admin, err = pgx.Connect(ctx, p.postgres.DSN("postgres")); err != nil {
		return p, err
	}
	p.broker, err = broker.New(ctx, broker.Options{Program: o.Program, Name: "peers", Dir: filepath.Join(p.dir, "nats"),
		Store: filepath.Join(p.dir, "nats", "store"), Output: io.Discard})
	if err != nil {
		return p, err
	}
	if err := p.broker.Start(ctx); err != nil {
		return p, err
	}
	if p.nats, err = natsgo.Connect(p.broker.URL()); err != nil {
		return p, err
	}
	p.js, err = jetstream.New(p.nats, jetstream.WithPublishAsyncMaxPending(mostPending))
	return p, err
}

func (p *place) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var failed []error
	if p.nats != nil {
		p.nats.Close()
	}
	if p.broker != nil {
		failed = append(failed, p.broker.Stop())
	}
	if p.admin != nil {
		failed = append(failed, p.admin.Close(ctx))
	}
	if p.postgres != nil {
		failed = append(failed, p.postgres.Close())
	}
	return errors.Join(append(failed, os.RemoveAll(p.dir))...)
}

// say tells whoever runs this what is going on.
func (p *place) say(format string, args ...any) {
	fmt.Fprintf(p.options.Progress, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// database is one that is made for a run and dropped after it.
type database struct {
	name, dsn string
	conn      *pgx.Conn
}

func (p *place) database(ctx context.Context) (*database, error) {
	p.made++
	d := &database{name: fmt.Sprintf("peers_%d", p.made)}
	if _, err := p.admin.Exec(ctx, "create database "+d.name); err != nil {
		return nil, err
	}
	d.dsn = p.postgres.DSN(d.name)
	var err error
	if d.conn, err = pgx.Connect(ctx, d.dsn); err != nil {
		return nil, err
	}
	return d, nil
}

// drop removes a database and its slots. Whoever read them has ended, but the
// server may not have noticed.
func (p *place) drop(ctx context.Context, d *database) error {
	ctx = context.WithoutCancel(ctx)
	_ = d.conn.Close(ctx) // the database goes as well
	err := until(ctx, func() (bool, error) {
		_, err := p.admin.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1", d.name)
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("drop the slots of %s: %w", d.name, err)
	}
	_, err = p.admin.Exec(ctx, "drop database "+d.name+" with (force)")
	return err
}

// run runs the statements of a file.
func (d *database) run(ctx context.Context, sql string) error {
	if _, err := d.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("%s: %w", firstWords(sql), err)
	}
	return nil
}

func firstWords(sql string) string {
	return strings.Join(strings.Fields(sql)[:min(6, len(strings.Fields(sql)))], " ")
}

// fill commits a backlog.
func (d *database) fill(ctx context.Context, sql string, events, size int) error {
	for from := 1; from <= events; from += fillStep {
		if _, err := d.conn.Exec(ctx, sql, from, min(from+fillStep-1, events), size); err != nil {
			return fmt.Errorf("fill the outbox: %w", err)
		}
	}
	// No contestant pays for the writes of its backlog.
	for _, sql := range []string{"vacuum (analyze)", "checkpoint"} {
		if err := d.run(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// stream makes an empty stream and says where a loop finds everything.
func (p *place) stream(ctx context.Context, d *database) (jetstream.Stream, target.Target, error) {
	p.made++
	t := target.Target{NATS: p.broker.URL(), Subject: subject, Stream: fmt.Sprintf("peers_%d", p.made)}
	if d != nil {
		t.Postgres = d.dsn
	}
	s, err := p.js.CreateStream(ctx, jetstream.StreamConfig{Name: t.Stream, Subjects: []string{subject}, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, t, fmt.Errorf("create a stream: %w", err)
	}
	return s, t, nil
}

// program is a running contestant with its log.
type program struct {
	*process.Process
	log string
}

// starter starts a program whose output goes to a writer.
type starter func(ctx context.Context, log io.Writer) (*process.Process, error)

func (p *place) start(ctx context.Context, start starter) (*program, error) {
	p.made++
	file, err := os.Create(filepath.Join(p.dir, fmt.Sprintf("log_%d", p.made)))
	if err != nil {
		return nil, err
	}
	running, err := start(ctx, file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &program{Process: running, log: file.Name()}, nil
}

// end ends it; what it was about to do is of no interest any more.
func (r *program) end() { _ = r.Terminate(endPatience) } // what does not end is killed

// alive is an error when it has ended by itself.
func (r *program) alive() error {
	if r.Running() {
		return nil
	}
	return fmt.Errorf("it ended by itself: %s", r.tail())
}

func (r *program) tail() string {
	text, err := os.ReadFile(r.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-logTail):]))
}

const (
	lookEvery = 2 * time.Millisecond
	// patience bounds every wait.
	patience = 4 * time.Minute
)

// until asks again and again.
func until(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if is, err := done(); is || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", ctx.Err())
		}
	}
}
