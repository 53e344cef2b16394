package cli

import (
	"context"
	"errors"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/app"
	"github.com/pg-tide/pg-tide/internal/demo"
)

// What the demo does unless told otherwise: long enough to see a service stop
// and catch up, slow enough for a small machine.
const (
	demoFor  = 30 * time.Second
	demoRate = 50
)

func (p *program) demoCommand() *cobra.Command {
	options := demo.Options{}
	command := &cobra.Command{
		Use:   "demo",
		Short: "See the whole bus move: four services, PostgreSQL, NATS, nothing to install",
		Long: `Starts a throwaway PostgreSQL with a database for each of four services, an
embedded NATS, their relays and traffic, and shows it live. At the end it
compares what was committed with what arrived, and removes everything.`,
		Example: "  pg-tide demo\n  pg-tide demo --for 2m --rate 500\n  pg-tide demo --keep",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.runDemo(cmd.Context(), options) },
	}
	flags := command.Flags()
	flags.DurationVar(&options.For, "for", demoFor, "`DURATION` that it takes")
	flags.IntVar(&options.Rate, "rate", demoRate, "`N` orders a second")
	flags.BoolVar(&options.Keep, "keep", false, "stay up at the end and print how to connect, to type the tutorial along")
	return command
}

// runDemo plays until its end or a signal, and then removes what it started; a
// second signal ends the process at once.
func (p *program) runDemo(ctx context.Context, options demo.Options) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	options.Out, options.Color, options.Size = p.Out, p.colours(), p.Size
	options.Relay = func(ctx context.Context, postgresURL string, logger *slog.Logger) error {
		return app.Run(ctx, app.Options{PostgresURL: postgresURL, Version: p.build.Version, Logger: logger})
	}
	err := demo.Run(ctx, options)
	var wrong *demo.OptionError
	if errors.As(err, &wrong) {
		return &usageError{err: err}
	}
	return err
}
