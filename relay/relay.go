// Package relay runs the pg_tide relay within a Go service: what the command
// pg-tide does, with the same configuration, which lives in the database. It
// brings the brokers' clients with it; a service that only publishes or works
// messages needs the package tide alone.
package relay

import (
	"context"
	"log/slog"
	"time"

	"github.com/pg-tide/pg-tide/internal/app"
)

// Config says what a relay works on.
type Config struct {
	// PostgresURL is a URL or libpq's key=value form; what it leaves out comes
	// from the PG… variables, the service file and the password file.
	PostgresURL string
	// HTTPAddr is where /metrics, /livez and /readyz are served; empty for none.
	HTTPAddr string
	// Listening, when set, is called once with the address that HTTPAddr became.
	Listening func(address string)
	// Version is shown in tide.relay_instance and in the metrics, and is the
	// service's; empty means "embedded".
	Version string
	// Logger is told what changes; nil means slog.Default.
	Logger *slog.Logger
	// DrainTimeout is how long the end may take; 0 means 5 seconds.
	DrainTimeout time.Duration
}

// Relay is a relay that may be run.
type Relay struct{ options app.Options }

// New makes a relay. What is wrong with its configuration, Run says.
func New(c Config) *Relay {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Version == "" {
		c.Version = "embedded"
	}
	return &Relay{options: app.Options{
		PostgresURL: c.PostgresURL, HTTPAddr: c.HTTPAddr, Listening: c.Listening,
		Version: c.Version, Logger: c.Logger, DrainTimeout: c.DrainTimeout,
	}}
}

// Run relays until ctx ends, and then finishes or hands back what is in flight
// within the drain timeout. It waits for a database or a broker that is not
// there; it returns an error only for what waiting cannot mend. Any number of
// relays, in services or by themselves, may run on one database: each pipeline
// is worked by one of them.
func (r *Relay) Run(ctx context.Context) error { return app.Run(ctx, r.options) }
