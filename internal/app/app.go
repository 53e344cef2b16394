package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/httpserver"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/run"
	"github.com/pg-tide/pg-tide/internal/telemetry"
	"github.com/pg-tide/pg-tide/internal/upkeep"
)

// DefaultDrainTimeout is how long a relay that is told to stop may take for
// what is in flight.
const DefaultDrainTimeout = 5 * time.Second

// Options say what a relay works on and how.
type Options struct {
	// PostgresURL is a URL or libpq's key=value form; what it leaves out comes
	// from the PG… variables, the service file and the password file.
	PostgresURL string
	// HTTPAddr is where /metrics, /livez and /readyz are served; empty for none.
	HTTPAddr string
	// HTTPNextFree takes the next free port when that of HTTPAddr is taken.
	HTTPNextFree bool
	// DrainTimeout bounds the end as a whole; 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
	// Version is shown in tide.relay_instance and in the metrics.
	Version string
	// Logger is told what changes; nil means nobody is.
	Logger *slog.Logger
	// Listening, when set, is called once with the HTTP address.
	Listening func(address string)
}

const (
	// httpStopTimeout is how long answers in progress may take at the end.
	httpStopTimeout = time.Second
	// disconnectTimeout is how long the database may take to see us off. The
	// driver itself gives a silent one fifteen seconds.
	disconnectTimeout = 500 * time.Millisecond
)

// Run runs the relay of one database until ctx ends, and then drains it. It
// waits for a database that is not there, or not fit, for as long as it takes.
// It returns an error only for what waiting cannot mend: options that are wrong.
func Run(ctx context.Context, o Options) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	fault.FollowClock()
	state := newHealth()
	stopHTTP, err := serve(ctx, o, state)
	if err != nil {
		return err
	}
	err = work(ctx, o, state)
	// The probes answer until everything else has ended.
	return errors.Join(err, stopHTTP())
}

// serve answers probes from before the database is reached until the end.
func serve(ctx context.Context, o Options, state *health) (stop func() error, err error) {
	if o.HTTPAddr == "" {
		return func() error { return nil }, nil
	}
	registry := prometheus.NewRegistry()
	if err := telemetry.NewMetrics(registry, o.Version, state.sample); err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	server, err := httpserver.Start(ctx, httpserver.Options{
		Address:  o.HTTPAddr,
		NextFree: o.HTTPNextFree,
		Metrics:  telemetry.Handler(registry),
		Ready:    state.readiness,
		Logger:   o.Logger,
	})
	if err != nil {
		return nil, err
	}
	if address := server.Address(); address != o.HTTPAddr && o.HTTPNextFree {
		o.Logger.Info("serving HTTP on the next free port", "address", address, "taken", o.HTTPAddr)
	} else {
		o.Logger.Info("serving HTTP", "address", address)
	}
	if o.Listening != nil {
		o.Listening(server.Address())
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpStopTimeout)
		defer cancel()
		return server.Stop(ctx)
	}, nil
}

// work reaches the database and runs its pipelines until ctx ends.
func work(ctx context.Context, o Options, state *health) error {
	db, err := reach(ctx, o, state)
	if err != nil {
		return err
	}
	if db == nil {
		return nil // told to stop before there was anything to do
	}
	defer disconnect(db, o.Logger)
	keeper := upkeep.New(db, retry.System{}, o.Logger)
	defer keep(ctx, keeper)()
	engine := newSupervisor(db, o)
	state.running(engine, keeper)
	defer context.AfterFunc(ctx, state.stopping)()
	if err := engine.Run(ctx); err != nil {
		return fmt.Errorf("run the relay: %w", err)
	}
	o.Logger.Info("the relay has stopped")
	return nil
}

// keep sets a keeper to work; the returned function stops it.
func keep(ctx context.Context, keeper *upkeep.Keeper) (stop func()) {
	task := run.Start(ctx, func(intake, _ context.Context) error {
		keeper.Run(intake)
		return nil
	})
	return func() {
		task.Drain()
		_ = task.Wait() // it has no errors of its own
	}
}

// disconnect closes the connections, and leaves those of a database that has
// fallen silent to time out by themselves: everything is saved or handed back
// by now, and the process must end in time.
func disconnect(db *catalog.Catalog, log *slog.Logger) {
	closed := make(chan struct{})
	go func() {
		db.Close()
		close(closed)
	}()
	timeout := time.NewTimer(disconnectTimeout)
	defer timeout.Stop()
	select {
	case <-closed:
	case <-timeout.C:
		log.Warn("the database does not answer; its connections are abandoned")
	}
}
