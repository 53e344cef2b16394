package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/broker"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

const (
	connectTimeout = 10 * time.Second
	closeTimeout   = 30 * time.Second
	// moveTimeout bounds the wait for anything to arrive.
	moveTimeout = 15 * time.Minute
)

// world is the servers, and what was made on them.
type world struct {
	options  Options
	progress *progress
	// dir holds what we write; prefix begins the names of all that we make.
	dir, prefix string

	postgres        *throwaway.Server // nil when it is the user's
	postgresURL     string
	postgresVersion string
	admin           *pgx.Conn

	broker  *broker.Broker // nil when it is the user's
	natsURL string
	nats    *natsgo.Conn
	js      jetstream.JetStream

	services []*service
}

// build starts or reaches the servers. What it returns is to be closed, also
// beside an error.
func build(ctx context.Context, options Options) (*world, error) {
	w := &world{options: options, progress: &progress{out: options.Progress, live: options.Live, begun: time.Now()},
		prefix: "pgtide_bench_" + strings.ToLower(rand.Text()[:6])}
	var err error
	if w.dir, err = os.MkdirTemp("", "pg-tide-bench-"); err != nil {
		return w, fmt.Errorf("make a place for the benchmark: %w", err)
	}
	if err := w.reachPostgres(ctx); err != nil {
		return w, err
	}
	if !slices.ContainsFunc(options.Cases, needsNATS) {
		return w, nil
	}
	return w, w.reachNATS(ctx)
}

func needsNATS(name string) bool { return name != "publish" && name != "bulk" }

func (w *world) wants(name string) bool { return slices.Contains(w.options.Cases, name) }

func (w *world) reachPostgres(ctx context.Context) (err error) {
	w.postgresURL = w.options.PostgresURL
	if w.postgresURL == "" {
		w.progress.say("starting PostgreSQL")
		w.postgres, err = throwaway.Start(ctx, throwaway.Options{Durable: true, Notices: w.options.Progress, Settings: map[string]string{
			"shared_buffers": "512MB", "max_wal_size": "8GB", "max_connections": "300", "checkpoint_timeout": "30min",
		}})
		if err != nil {
			return err
		}
		w.postgresURL = w.postgres.DSN("postgres")
	}
	if w.admin, err = connectTo(ctx, w.postgresURL); err != nil {
		return err
	}
	w.postgresVersion = w.admin.PgConn().ParameterStatus("server_version")
	return nil
}

func connectTo(ctx context.Context, dsn string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

func (w *world) reachNATS(ctx context.Context) (err error) {
	w.natsURL = w.options.NATSURL
	if w.natsURL == "" {
		w.progress.say("starting NATS")
		log, err := os.Create(filepath.Join(w.dir, "nats.log"))
		if err != nil {
			return fmt.Errorf("make the log of NATS: %w", err)
		}
		w.broker, err = broker.New(ctx, broker.Options{Program: w.options.Program, Name: "bench",
			Dir: filepath.Join(w.dir, "nats"), Store: filepath.Join(w.dir, "nats", "store"), Output: log})
		if err != nil {
			return err
		}
		if err := w.broker.Start(ctx); err != nil {
			return err
		}
		w.natsURL = w.broker.URL()
	}
	if w.nats, err = natsgo.Connect(w.natsURL, natsgo.Name("pg-tide bench"), natsgo.Timeout(connectTimeout)); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	w.js, err = jetstream.New(w.nats, jetstream.WithPublishAsyncMaxPending(yardstickPending))
	return err
}

func (w *world) natsVersion() string {
	if w.nats == nil {
		return ""
	}
	return w.nats.ConnectedServerVersion()
}

// dsn is the address of another database on the same server.
func (w *world) dsn(database string) (string, error) {
	if w.postgres != nil {
		return w.postgres.DSN(database), nil
	}
	if !strings.HasPrefix(w.postgresURL, "postgres://") && !strings.HasPrefix(w.postgresURL, "postgresql://") {
		return w.postgresURL + " dbname=" + database, nil // the last one counts
	}
	u, err := url.Parse(w.postgresURL)
	if err != nil {
		return "", fmt.Errorf("read --postgres-url: %w", err)
	}
	u.Path = "/" + database
	return u.String(), nil
}

// service makes a database with the schema in it.
func (w *world) service(ctx context.Context, name string) (*service, error) {
	s := &service{world: w, name: name, database: w.prefix + "_" + name}
	if _, err := w.admin.Exec(ctx, "create database "+pgx.Identifier{s.database}.Sanitize()); err != nil {
		return nil, fmt.Errorf("create a database for the service %s: %w", name, err)
	}
	w.services = append(w.services, s)
	var err error
	if s.dsn, err = w.dsn(s.database); err != nil {
		return nil, err
	}
	if s.conn, err = connectTo(ctx, s.dsn); err != nil {
		return nil, err
	}
	if err := schema.Install(ctx, s.conn); err != nil {
		return nil, fmt.Errorf("install the schema for %s: %w", name, err)
	}
	if _, err := s.conn.Exec(ctx, w.options.With, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("run the SQL of --with: %w", err)
	}
	return s, nil
}

// drop ends a service and removes its database, so that the next case finds
// the machine as the one before did.
func (w *world) drop(ctx context.Context, s *service) error {
	s.close(ctx)
	w.services = slices.DeleteFunc(w.services, func(other *service) bool { return other == s })
	if _, err := w.admin.Exec(ctx, "drop database if exists "+pgx.Identifier{s.database}.Sanitize()+" with (force)"); err != nil {
		return fmt.Errorf("remove the database %s: %w", s.database, err)
	}
	return nil
}

// subject is a subject of ours, and stream the stream that takes it.
func (w *world) subject(name string) string { return w.prefix + "." + name }
func (w *world) stream(name string) string  { return w.prefix + "_" + name }

// removeStream removes a stream of ours if there is one.
func (w *world) removeStream(ctx context.Context, name string) error {
	err := w.js.DeleteStream(ctx, w.stream(name))
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("remove the stream %s: %w", w.stream(name), err)
	}
	return nil
}

// close removes all that was made, and ends what was started.
func (w *world) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var failed []error
	for _, s := range slices.Clone(w.services) {
		failed = append(failed, w.drop(ctx, s))
	}
	if w.nats != nil {
		for _, name := range streamNames {
			failed = append(failed, w.removeStream(ctx, name))
		}
		w.nats.Close()
	}
	if w.broker != nil {
		failed = append(failed, w.broker.Stop())
	}
	if w.admin != nil {
		failed = append(failed, w.admin.Close(ctx))
	}
	if w.postgres != nil {
		failed = append(failed, w.postgres.Close())
	}
	return errors.Join(append(failed, os.RemoveAll(w.dir))...)
}

// until asks again and again, a few milliseconds apart.
func until(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	tick := time.NewTicker(every)
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
