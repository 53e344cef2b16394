// Package world is the servers that are measured and what is made on them:
// databases with the schema and a relay each, and streams. Throwaway servers
// are its own, the user's are left as they were found. It refuses to measure.
package world

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

const (
	connectTimeout = 10 * time.Second
	closeTimeout   = 30 * time.Second
	againPause     = 50 * time.Millisecond
	// errNoStore is what NATS says when it cannot make a stream's files.
	errNoStore = 10049
	// mostPending is how many acknowledgements a client of JS waits for.
	mostPending = 4000
)

// Options say which servers, and what is measured on them.
type Options struct {
	// PostgresURL and NATSURL name servers to use instead of throwaway ones.
	PostgresURL, NATSURL string
	// Brokers are addresses of a Kafka to use.
	Brokers string
	// NATS and Kafka say which broker is needed.
	NATS, Kafka bool
	// With is SQL that is run in each database after the schema was installed.
	With string
	// Program is the pg-tide that is measured.
	Program string
	// Progress gets what is going on; Live redraws one line of it.
	Progress io.Writer
	Live     bool
}

// World is the servers, and what was made on them.
type World struct {
	Progress        *Progress
	PostgresVersion string
	// JS is the broker's JetStream; nil where none is needed.
	JS jetstream.JetStream
	// Kafka is the broker, where Options asked for it.
	Kafka *Kafka

	options Options
	// dir holds what we write; prefix begins the names of all that we make.
	dir, prefix string

	postgres    *throwaway.Server // nil when it is the user's
	postgresURL string
	admin       *pgx.Conn

	broker  *broker.Broker // nil when it is the user's
	natsURL string
	nats    *natsgo.Conn

	services []*Service
	streams  []string
}

// Build starts or reaches the servers. What it returns is to be closed, also
// beside an error.
func Build(ctx context.Context, options Options) (*World, error) {
	w := &World{options: options, Progress: &Progress{out: options.Progress, live: options.Live, begun: time.Now()},
		prefix: "pgtide_bench_" + strings.ToLower(rand.Text()[:6])}
	var err error
	if w.dir, err = os.MkdirTemp("", "pg-tide-bench-"); err != nil {
		return w, fmt.Errorf("make a place for the benchmark: %w", err)
	}
	if err := w.reachPostgres(ctx); err != nil {
		return w, err
	}
	if options.Kafka {
		return w, w.reachKafka(ctx)
	}
	if !options.NATS {
		return w, nil
	}
	return w, w.reachNATS(ctx)
}

func (w *World) reachPostgres(ctx context.Context) (err error) {
	w.postgresURL = w.options.PostgresURL
	if w.postgresURL == "" {
		w.Progress.Say("starting PostgreSQL")
		w.postgres, err = throwaway.Start(ctx, throwaway.Options{Durable: true, Notices: w.options.Progress, Settings: map[string]string{
			"shared_buffers": "512MB", "max_wal_size": "8GB", "max_connections": "300", "checkpoint_timeout": "30min",
		}})
		if err != nil {
			return err
		}
		w.postgresURL = w.postgres.DSN("postgres")
	}
	if w.admin, err = ConnectTo(ctx, w.postgresURL); err != nil {
		return err
	}
	w.PostgresVersion = w.admin.PgConn().ParameterStatus("server_version")
	return nil
}

// ConnectTo connects to a database.
func ConnectTo(ctx context.Context, dsn string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

func (w *World) reachNATS(ctx context.Context) (err error) {
	w.natsURL = w.options.NATSURL
	if w.natsURL == "" {
		w.Progress.Say("starting NATS")
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
	w.JS, err = jetstream.New(w.nats, jetstream.WithPublishAsyncMaxPending(mostPending))
	return err
}

// NATSVersion is that of the broker, or nothing.
func (w *World) NATSVersion() string {
	if w.nats == nil {
		return ""
	}
	return w.nats.ConnectedServerVersion()
}

// KafkaVersion is that of the broker, or nothing.
func (w *World) KafkaVersion() string {
	if w.Kafka == nil {
		return ""
	}
	return w.Kafka.Version
}

// dsn is the address of another database on the same server.
func (w *World) dsn(database string) (string, error) {
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

// Service makes a database with the schema in it.
func (w *World) Service(ctx context.Context, name string) (*Service, error) {
	s := &Service{world: w, Name: name, Database: w.prefix + "_" + name}
	if _, err := w.admin.Exec(ctx, "create database "+pgx.Identifier{s.Database}.Sanitize()); err != nil {
		return nil, fmt.Errorf("create a database for the service %s: %w", name, err)
	}
	w.services = append(w.services, s)
	var err error
	if s.DSN, err = w.dsn(s.Database); err != nil {
		return nil, err
	}
	if s.Conn, err = ConnectTo(ctx, s.DSN); err != nil {
		return nil, err
	}
	if err := schema.Install(ctx, s.Conn); err != nil {
		return nil, fmt.Errorf("install the schema for %s: %w", name, err)
	}
	if _, err := s.Conn.Exec(ctx, w.options.With, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("run the SQL of --with: %w", err)
	}
	return s, nil
}

// Drop ends a service and removes its database, so that the next case finds
// the machine as the one before did.
func (w *World) Drop(ctx context.Context, s *Service) error {
	s.close(ctx)
	w.services = slices.DeleteFunc(w.services, func(other *Service) bool { return other == s })
	if _, err := w.admin.Exec(ctx, "drop database if exists "+pgx.Identifier{s.Database}.Sanitize()+" with (force)"); err != nil {
		return fmt.Errorf("remove the database %s: %w", s.Database, err)
	}
	return nil
}

// DropAll drops all services.
func (w *World) DropAll(ctx context.Context) error {
	var failed []error
	for _, s := range slices.Clone(w.services) {
		failed = append(failed, w.Drop(ctx, s))
	}
	return errors.Join(failed...)
}

// Admin asks one question of the server; no database of ours is meant.
func (w *World) Admin(ctx context.Context, sql string, args ...any) pgx.Row {
	return w.admin.QueryRow(ctx, sql, args...)
}

// Subject is a subject of ours.
func (w *World) Subject(name string) string { return w.prefix + "." + name }

// Durable is a consumer's name of ours.
func (w *World) Durable(name string) string { return w.prefix + "_" + name }

// NewStream makes a stream for a subject of ours, in place of an earlier one
// of that name.
func (w *World) NewStream(ctx context.Context, name, subject string) (jetstream.Stream, error) {
	full := w.prefix + "_" + name
	if err := w.RemoveStream(ctx, full); err != nil {
		return nil, err
	}
	// The server removes the files of the earlier stream behind its answer, and
	// for a moment a new one of the same name gets none.
	for begun := time.Now(); ; {
		stream, err := w.JS.CreateStream(ctx, jetstream.StreamConfig{
			Name: full, Subjects: []string{w.Subject(subject)}, Storage: jetstream.FileStorage,
		})
		if err == nil {
			w.streams = append(w.streams, full)
			return stream, nil
		}
		var refused *jetstream.APIError
		if !errors.As(err, &refused) || refused.ErrorCode != errNoStore || time.Since(begun) > connectTimeout {
			return nil, fmt.Errorf("create the stream %s: %w", full, err)
		}
		if err := retry.Sleep(ctx, retry.System{}, againPause); err != nil {
			return nil, err
		}
	}
}

// RemoveStream removes a stream if there is one, by its full name.
func (w *World) RemoveStream(ctx context.Context, name string) error {
	w.streams = slices.DeleteFunc(w.streams, func(other string) bool { return other == name })
	err := w.JS.DeleteStream(ctx, name)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("remove the stream %s: %w", name, err)
	}
	return nil
}

// Close removes all that was made, and ends what was started.
func (w *World) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	failed := []error{w.DropAll(ctx)}
	if w.nats != nil {
		for _, name := range slices.Clone(w.streams) {
			failed = append(failed, w.RemoveStream(ctx, name))
		}
		w.nats.Close()
	}
	if w.Kafka != nil {
		failed = append(failed, w.Kafka.close(ctx))
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
