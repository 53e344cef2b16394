package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/broker"
	"github.com/pg-tide/pg-tide/internal/torture"
	"github.com/pg-tide/pg-tide/internal/torture/plan"
)

func (p *program) tortureCommand() *cobra.Command {
	options := torture.Options{}
	command := &cobra.Command{
		Use:   "torture",
		Short: "Break everything while events flow, and see that nothing is lost",
		Long: `Starts two PostgreSQL servers, NATS or Kafka, four services with two relays each, and
publishers and workers; kills, stops, cuts and slows them by a schedule that is
drawn from the seed; and compares hop by hop what was committed with what
arrived. Nothing but what it started itself is touched.

The exit code is 3 when a promise was broken. Logs, ledgers, the schedule and
the report then stay in the folder that is named; with --dir they always do.

Faults: ` + plan.Names(plan.All()) + `.
They are given by name, or as all or none; -NAME leaves one out.`,
		Example: `  pg-tide torture
  pg-tide torture --for 30m --postgres oldest --dir /tmp/torture
  pg-tide torture --for 1m --seed 42 --faults relay-kill,postgres-crash --every 1s
  pg-tide torture --bus kafka --for 1m
  pg-tide torture --faults=-broker-full --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runTorture(cmd.Context(), options) },
	}
	flags := command.Flags()
	flags.DurationVar(&options.For, "for", torture.DefaultFor, "`DURATION` of the traffic")
	flags.Uint64Var(&options.Seed, "seed", 0, "`N` that everything is drawn from (default one from the clock)")
	flags.StringVar(&options.Faults, "faults", "all", "`LIST` of faults")
	flags.DurationVar(&options.Every, "every", torture.DefaultEvery, "mean `DURATION` between two faults")
	flags.StringVar(&options.Postgres, "postgres", "", "`VERSION` or folder of PostgreSQL's programs; oldest, newest (default the machine's)")
	flags.StringVar(&options.Bus, "bus", "nats", "`NAME` of what carries the events: nats or kafka, which takes Java 17 and Maven")
	flags.IntVar(&options.Lanes, "lanes", 1, "`N` lanes in each pipeline")
	flags.IntVar(&options.Pipelines, "pipelines", 1, "`N` pipelines of the service orders, all but one idle")
	flags.DurationVar(&options.Retention, "retention", 0, "`DURATION` that outboxes keep events, a fifth of what inboxes keep (default the usual days)")
	flags.IntVar(&options.Writers, "writers", torture.DefaultWriters, "`N` sessions that publish")
	flags.IntVar(&options.Rate, "rate", torture.DefaultRate, "`N` events a second that they aim at")
	flags.StringVar(&options.Dir, "dir", "", "new `DIR` for what is kept (default a temporary one)")
	p.outputFlag(command)
	return command
}

// runTorture tortures until its end or a signal; a second signal ends the
// process at once, and with it everything that it started.
func (p *program) runTorture(ctx context.Context, options torture.Options) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	options.Out, options.Live = p.Out, p.OutIsTerminal
	if p.settings.output == outputJSON {
		options.Out, options.Live = p.Err, p.ErrIsTerminal
	}
	report, err := torture.Run(ctx, options)
	var wrong *torture.OptionError
	if errors.As(err, &wrong) {
		return &usageError{err: err}
	}
	if err != nil {
		return err
	}
	if p.settings.output == outputJSON {
		encoder := json.NewEncoder(p.Out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	} else {
		report.Print(p.Out)
	}
	if !report.Clean() {
		return &problemsError{text: fmt.Sprintf("%d findings with seed %d", len(report.Broken), report.Seed)}
	}
	return nil
}

// brokerCommand is the process that torture and bench run for themselves.
func (p *program) brokerCommand() *cobra.Command {
	var config string
	command := &cobra.Command{
		Use:     broker.Command,
		Short:   "NATS with JetStream for torture and bench, in a process of its own",
		Example: "  pg-tide broker --config-file nats.conf",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return broker.Serve(ctx, config)
		},
	}
	command.Flags().StringVar(&config, "config-file", "", "configuration `FILE` of NATS")
	return command
}
