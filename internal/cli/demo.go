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
		Short: "See the whole bus move: four services, PostgreSQL, NATS or Kafka, nothing to install",
		Long: `Starts a throwaway PostgreSQL with a database for each of four services, an
embedded NATS, their relays and traffic, and shows it live. At the end it
compares what was committed with what arrived, and removes everything. With
--bus kafka it runs over an embedded stand-in for Kafka, in memory; --brokers
names a real one, in which it makes topics and groups of its own, whose names
begin with pgtide_demo_, and removes them.`,
		Example: "  pg-tide demo\n  pg-tide demo --for 2m --rate 500\n  pg-tide demo --keep\n  pg-tide demo --bus kafka --brokers localhost:9092",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.runDemo(cmd.Context(), options) },
	}
	flags := command.Flags()
	flags.DurationVar(&options.For, "for", demoFor, "`DURATION` that it takes")
	flags.IntVar(&options.Rate, "rate", demoRate, "`N` orders a second")
	flags.StringVar(&options.Bus, "bus", demo.BusNATS, "`NAME` of what carries the events: nats or kafka")
	flags.StringVar(&options.Brokers, "brokers", "", "`ADDRESSES` of a Kafka to use, host:port, separated by commas (default an embedded one)")
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
