package world

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// Cluster is one PostgreSQL server.
type Cluster struct {
	Name   string
	Server *throwaway.Server
	// Prepares says that transactions may be prepared there.
	Prepares bool
	// Hasty, while it is set, lets all publishers commit without waiting.
	Hasty atomic.Bool
	// Busy is held by whoever stops and starts the server.
	Busy sync.Mutex
}

// mostPrepared is the room for prepared transactions, where there is any.
const mostPrepared = "60"

func startCluster(ctx context.Context, o Options, name string, prepares bool) (*Cluster, error) {
	settings := map[string]string{
		"max_connections": "200",
		// Asynchronous commits are then flushed by nobody but the others' commits.
		"wal_writer_delay": "10s",
		"log_line_prefix":  "%m [%p] %a@%d ",
	}
	if prepares {
		settings["max_prepared_transactions"] = mostPrepared
	}
	server, err := throwaway.Start(ctx, throwaway.Options{
		Major: o.Major, BinDir: o.BinDir, Fetched: o.Fetched, Durable: true, Settings: settings, OwnIdentity: true, Notices: o.Notices,
	})
	if err != nil {
		return nil, fmt.Errorf("start the PostgreSQL server %s: %w", name, err)
	}
	return &Cluster{Name: name, Server: server, Prepares: prepares}, nil
}

func (c *Cluster) createDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, c.Server.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is done
	if _, err := conn.Exec(ctx, fmt.Sprintf(query("create_database"), pgx.Identifier{name}.Sanitize())); err != nil {
		return fmt.Errorf("create the database %s: %w", name, err)
	}
	return nil
}

// Revive starts the server if it does not run.
func (c *Cluster) Revive(ctx context.Context) error {
	c.Busy.Lock()
	defer c.Busy.Unlock()
	if c.Server.PID() != 0 {
		return nil
	}
	return c.Server.Start(ctx)
}
