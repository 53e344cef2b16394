package demo

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/schema"
)

// service is one of the four: a database, a relay and perhaps a worker.
type service struct {
	name   string
	dsn    string
	pool   *pgxpool.Pool
	relay  *task
	worker *task
	// down is set while the show has stopped the service.
	down atomic.Bool
}

// newService makes the database, installs the schema and runs the service's SQL.
func newService(ctx context.Context, server *throwaway.Server, name string, over bus) (*service, error) {
	if err := createDatabase(ctx, server, name); err != nil {
		return nil, err
	}
	s := &service{name: name, dsn: server.DSN(name)}
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is done
	if err := schema.Install(ctx, conn); err != nil {
		return nil, fmt.Errorf("install into %s: %w", name, err)
	}
	text := query("setup_"+name) + at(over, over.pipelines(name))
	if _, err := conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
		return nil, fmt.Errorf("set up the service %s: %w", name, err)
	}
	config, err := pgxpool.ParseConfig(s.dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	config.MaxConns = mostWriters + 2 // the writers, and who looks on
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	return s, nil
}

func createDatabase(ctx context.Context, server *throwaway.Server, name string) error {
	conn, err := pgx.Connect(ctx, server.SocketDSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is done
	if _, err := conn.Exec(ctx, fmt.Sprintf(query("create_database"), pgx.Identifier{name}.Sanitize())); err != nil {
		return fmt.Errorf("create the database %s: %w", name, err)
	}
	return nil
}

// stop ends the worker, then the relay, and waits for both.
func (s *service) stop() {
	s.worker.stop()
	s.relay.stop()
}

// arrivals reads events at the end of a hop.
func (s *service) arrivals(ctx context.Context, name string) ([]arrival, error) {
	rows, err := s.pool.Query(ctx, query(name))
	if err != nil {
		return nil, fmt.Errorf("read what arrived at %s: %w", s.name, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a arrival, err error) {
		err = row.Scan(&a.id, &a.key, &a.seq)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what arrived at %s: %w", s.name, err)
	}
	return all, nil
}
