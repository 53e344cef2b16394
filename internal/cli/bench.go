package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/bench"
	"github.com/pg-tide/pg-tide/internal/bench/report"
)

func (p *program) benchCommand() *cobra.Command {
	options := bench.Options{}
	files := benchFiles{}
	with := ""
	command := &cobra.Command{
		Use:   "bench [CASE…]",
		Short: "Measure the bus on this machine, beside loops written by hand",
		Long: `Moves events through PostgreSQL, the relay and NATS, or Kafka, and has plain loops with
the same libraries do the same work in turns. What counts are the ratios.

Servers are started for it and removed. With --postgres-url, --nats-url and
--brokers it measures yours: it makes databases, streams and topics of its own
there, whose names begin with pgtide_bench_, loads the servers as much as they bear, and removes
what it made. The variable PG_TIDE_POSTGRES_URL does not count: it may be set
for a relay that is at work.

Cases:
` + bench.About(),
		Example: `  pg-tide bench
  pg-tide bench forward reverse --events 1000000 --plot bench.svg
  pg-tide bench reverse --lanes 4 --size 200
  pg-tide bench forward reverse --bus kafka
  pg-tide bench publish --postgres-url postgres://user:pass@test-db/postgres --output json`,
		ValidArgs: bench.CaseNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			options.Cases = args
			if with != "" {
				text, err := os.ReadFile(with)
				if err != nil {
					return usagef("read the file of --with: %w", err)
				}
				options.With = string(text)
			}
			return p.runBench(cmd.Context(), options, files)
		},
	}
	flags := command.Flags()
	flags.IntVar(&options.Rounds, "rounds", bench.DefaultRounds, "`N` runs of each contender, after one that warms up")
	flags.IntVar(&options.Events, "events", bench.DefaultEvents, "`N` events of a backlog")
	flags.IntSliceVar(&options.Sizes, "size", bench.DefaultSizes(), "`BYTES` of an event's payload, one or several")
	flags.IntVar(&options.Lanes, "lanes", 1, "`N` lanes of each pipeline")
	flags.IntVar(&options.BatchSize, "batch-size", 0, "`N` events that each pipeline works at once; 0 for the default")
	flags.StringVar(&options.Bus, "bus", bench.BusNATS, "`NAME` of what carries the events: nats, or kafka for the cases forward and reverse")
	flags.StringVar(&options.Brokers, "brokers", "", "`ADDRESSES` of a Kafka to use, host:port, separated by commas (default one of its own, which takes Java 17 and Maven)")
	flags.StringVar(&options.NATSURL, "nats-url", "", "`URL` of a NATS server to use (default one of its own)")
	flags.StringVar(&files.plot, "plot", "", "SVG `FILE` to draw the figures into")
	flags.StringVar(&files.baseline, "baseline", "", "`FILE` of an earlier --output json; exit code 3 when the best of a ratio is 40 % below what it was")
	flags.StringVar(&with, "with", "", "`FILE` of SQL that is run in each database after the schema was installed, to try a change")
	p.outputFlag(command)
	return command
}

// benchFiles are the files that a benchmark reads and writes besides its report.
type benchFiles struct{ plot, baseline string }

// runBench measures until its end or a signal, and then removes what it made;
// a second signal ends the process at once.
func (p *program) runBench(ctx context.Context, options bench.Options, files benchFiles) error {
	baseline, err := readBaseline(files.baseline)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	if p.settings.from[flagPostgresURL] == fromFlag || p.settings.from[flagPostgresURLFile] == fromFlag {
		options.PostgresURL = p.settings.postgresURL
	}
	options.Progress, options.Live = p.Err, p.ErrIsTerminal
	report, err := bench.Run(ctx, options)
	var wrong *bench.OptionError
	if errors.As(err, &wrong) {
		return &usageError{err: err}
	}
	if err != nil {
		return err
	}
	if err := drawInto(files.plot, report); err != nil {
		return err
	}
	if err := p.printBench(report); err != nil {
		return err
	}
	if baseline == nil {
		return nil
	}
	if fallen := report.Below(baseline); len(fallen) > 0 {
		return &problemsError{text: "slower than in " + files.baseline + ": " + strings.Join(fallen, "; ")}
	}
	return nil
}

func (p *program) printBench(r *report.Report) error {
	if p.settings.output != outputJSON {
		r.Print(p.Out)
		return nil
	}
	encoder := json.NewEncoder(p.Out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// readBaseline reads an earlier report; nil when none is named.
func readBaseline(path string) (*report.Report, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("read the file of --baseline: %w", err)
	}
	earlier := &report.Report{}
	if err := json.Unmarshal(text, earlier); err != nil || len(earlier.Results) == 0 {
		return nil, usagef("--baseline %s is no report of `pg-tide bench --output json`", path)
	}
	return earlier, nil
}

// drawInto draws the report into a file, if one is named.
func drawInto(path string, r *report.Report) (err error) {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make the picture: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return r.Plot(file)
}
