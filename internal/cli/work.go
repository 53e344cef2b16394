package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/tide"
)

// work is what the flags of the command say.
type work struct {
	inbox, command string
	concurrency    int
	lease, stop    time.Duration
	whole          bool
}

func (p *program) workCommand() *cobra.Command {
	var w work
	command := &cobra.Command{
		Use:   "work INBOX --exec COMMAND",
		Short: "Work an inbox: run a program for each message",
		Long: `Claims messages of an inbox and runs a program for each, by the shell, with the
payload on its standard input. Messages of a key come one after another, in
order; the lease is extended while the program runs. It ends with SIGTERM or
ctrl-C, when what runs has ended or --stop-timeout is over.

What the program's exit code says:
   0  done
  65  this message will never work: a dead letter at once
  75  not now: to be tried again in a minute, and the attempt does not count
  else it failed, is tried again after a pause that grows, and is a dead letter
  after the inbox's max_attempts. What it last wrote to its standard error is
  kept with the message.

The program finds in its environment PG_TIDE_EVENT_ID, PG_TIDE_EVENT_TYPE,
PG_TIDE_STREAM, PG_TIDE_KEY, PG_TIDE_OP, PG_TIDE_SOURCE, PG_TIDE_ATTEMPTS,
PG_TIDE_HEADERS (JSON) and PG_TIDE_INBOX. What is longer than the system takes
(128 KiB) is left out, and PG_TIDE_LEFT_OUT names it; --message has all of it.
Of what the program writes the last 64 KiB are shown. It may be run twice for a
message when the machine dies before its end is noted: the event id tells.`,
		Example: `  pg-tide work payment_triggers --exec './charge'
  pg-tide work payment_triggers --exec 'curl -sf --json @- https://payments.example/charge' --concurrency 4
  pg-tide work payment_triggers --exec 'jq -c .' --message`,
		ValidArgsFunction: p.completeNames("inbox_list", "inbox"),
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case w.command == "":
				return usagef("%s needs --exec, the program to run for each message", cmd.CommandPath())
			case w.concurrency < 1:
				return usagef("--concurrency is %d: it must be 1 at least", w.concurrency)
			case w.lease < time.Second:
				return usagef("--lease is %s: it must be a second at least", w.lease)
			case w.stop <= 0:
				return usagef("--stop-timeout is %s: it must be more than 0", w.stop)
			}
			return exactArgs("INBOX")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			w.inbox = args[0]
			return p.work(cmd.Context(), w)
		},
	}
	flags := command.Flags()
	flags.StringVar(&w.command, "exec", "", "`COMMAND` to run for each message, by the shell")
	flags.IntVar(&w.concurrency, "concurrency", 1, "run `N` at once, of different keys")
	flags.DurationVar(&w.lease, "lease", 30*time.Second, "others may have the messages of a worker that was not heard of for this `DURATION`")
	flags.DurationVar(&w.stop, "stop-timeout", 5*time.Second, "`DURATION` that SIGTERM waits for what runs")
	flags.BoolVar(&w.whole, "message", false, "the whole message as JSON on the program's input, not its payload alone")
	return command
}

// work runs until a signal.
func (p *program) work(ctx context.Context, w work) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config, err := pgxpool.ParseConfig(p.settings.postgresURL)
	if err != nil {
		return p.unnamed(err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return p.unnamed(err)
	}
	defer pool.Close()
	worker, err := tide.NewWorker(pool, tide.WorkerConfig{Inbox: w.inbox, Concurrency: w.concurrency, Prefetch: 2 * w.concurrency,
		Lease: w.lease, StopTimeout: w.stop, Logger: slog.New(slog.NewTextHandler(p.Err, nil))})
	if err != nil {
		return err
	}
	each := &eachMessage{command: w.command, whole: w.whole, out: p.Out, err: p.Err}
	worker.HandleOthers(each.run)
	if err := worker.Run(ctx); err != nil {
		if errors.Is(err, tide.ErrStopTimeout) {
			return withHint(fmt.Errorf("programs were still running after %s and were killed: %w", w.stop, err), "their messages are tried again when the leases end; give --stop-timeout more")
		}
		return err
	}
	return nil
}
