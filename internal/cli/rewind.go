package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

const rewindHelp = `Makes a forward pipeline send again what was published at a time or later, with the
same event ids: a broker that still remembers them drops the repetition, and every
inbox does. Only what the outbox retains can be sent again.`

// rewindFlags say from when on; exactly one is given.
type rewindFlags struct {
	to    string
	since time.Duration
	all   bool
	yes   bool
}

func (p *program) rewindCommand() *cobra.Command {
	var flags rewindFlags
	command := &cobra.Command{
		Use:   "rewind PIPELINE",
		Short: "Send again what a pipeline has sent since a time",
		Long:  rewindHelp,
		Example: "  pg-tide rewind orders-to-nats --since 1h\n" +
			"  pg-tide rewind orders-to-nats --to 2026-01-31T09:30:00Z --yes\n" +
			"  pg-tide rewind orders-to-nats --all",
		ValidArgsFunction: p.completeNames("pipeline_list", "pipeline"),
		Args:              exactArgs("PIPELINE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.rewind(ctx, conn, args[0], flags)
			})
		},
	}
	command.Flags().StringVar(&flags.to, "to", "", "from this `TIME` on, as PostgreSQL reads it")
	command.Flags().DurationVar(&flags.since, "since", 0, "the last `DURATION`, such as 90s or 1h")
	command.Flags().BoolVar(&flags.all, "all", false, "everything that the outbox retains")
	yesFlag(command, &flags.yes)
	p.outputFlag(command)
	return command
}

func (f *rewindFlags) check(cmd *cobra.Command) error {
	given := 0
	for _, name := range []string{"to", "since", "all"} {
		if cmd.Flags().Changed(name) {
			given++
		}
	}
	switch {
	case given != 1:
		return usagef("%s needs one of --to, --since and --all", cmd.CommandPath())
	case cmd.Flags().Changed("since") && f.since <= 0:
		return usagef("--since %s is not a time that has passed; write it like 90s or 1h", f.since)
	}
	return nil
}

// rewind says what would go again and asks before it does it.
func (p *program) rewind(ctx context.Context, conn *pgx.Conn, pipeline string, flags rewindFlags) error {
	var from string
	if err := conn.QueryRow(ctx, query("rewind_from"), nullable(flags.to), flags.since.Microseconds(), flags.all).Scan(&from); err != nil {
		return err
	}
	if !flags.yes {
		again, err := tryRewind(ctx, conn, pipeline, from)
		if err != nil {
			return err
		}
		if err := p.confirm(false, fmt.Sprintf("send %s of pipeline %q again", events(again), pipeline)); err != nil {
			return err
		}
	}
	var again int64
	if err := conn.QueryRow(ctx, query("rewind"), pipeline, from).Scan(&again); err != nil {
		return err
	}
	result := map[string]any{"pipeline": pipeline, "from": from, "events": again}
	if again == 0 {
		return p.done(result, "pipeline %q has sent nothing since then: nothing goes again", pipeline)
	}
	return p.done(result, "%s of pipeline %q: will be sent again, with the same event ids", events(again), pipeline)
}

// tryRewind does it in a transaction that is rolled back at once: no lock is
// held while a person thinks.
func tryRewind(ctx context.Context, conn *pgx.Conn, pipeline, from string) (again int64, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("begin to look: %w", err)
	}
	err = tx.QueryRow(ctx, query("rewind"), pipeline, from).Scan(&again)
	return again, errors.Join(err, tx.Rollback(ctx))
}

func events(n int64) string { return counted(strconv.FormatInt(n, 10), "event") }
