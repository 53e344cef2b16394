package cli

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/app"
	"github.com/pg-tide/pg-tide/internal/telemetry"
)

func (p *program) runCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "run",
		Short: "Run the relay of a database (the same as without a subcommand)",
		Long: `Runs the relay of one database until SIGTERM or ctrl-C. It then finishes what is
in flight, within --drain-timeout; a second signal ends it at once.

It may start before its database and before its broker, and waits for both. Any
number of relays may run on one database: each pipeline is worked by one of them.`,
		Example: `  pg-tide run --postgres-url postgres://user:pass@orders-db/orders
  PG_TIDE_POSTGRES_URL=postgres://user:pass@orders-db/orders pg-tide
  PGSERVICE=orders pg-tide run --http-addr 0.0.0.0:9090`,
		Args: cobra.NoArgs,
		RunE: p.runRelay,
	}
	p.relayFlags(command.Flags())
	return command
}

// httpOff is the address that means none.
const httpOff = "off"

// runRelay runs until a signal. After the first one signals have their usual
// effect again, so that a second one ends the process at once.
func (p *program) runRelay(cmd *cobra.Command, _ []string) error {
	logger, flush, err := telemetry.NewLogger(p.Err, p.logFormat(), p.settings.logLevel)
	if err != nil {
		return &usageError{err: err}
	}
	defer flush()
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	address := p.settings.httpAddr
	if address == httpOff {
		address = ""
	}
	logger.Info("pg-tide is starting", "version", p.build.Version)
	return app.Run(ctx, app.Options{
		PostgresURL:  p.settings.postgresURL,
		HTTPAddr:     address,
		HTTPNextFree: p.settings.from[flagHTTPAddr] == fromDefault,
		DrainTimeout: p.settings.drainTimeout,
		Version:      p.build.Version,
		Logger:       logger,
	})
}

// logFormat is text for people and JSON for what collects logs.
func (p *program) logFormat() string {
	if p.settings.logFormat != "auto" {
		return p.settings.logFormat
	}
	if p.ErrIsTerminal {
		return "text"
	}
	return "json"
}
