package cli

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

func (p *program) inboxStats() *cobra.Command {
	var last int
	command := &cobra.Command{
		Use:   "stats INBOX",
		Short: "What became of the messages that arrived last, by event type",
		Long: `Looks at the messages that arrived last and says for each event type how many
were processed, wait, are dead or were tried more than once, and how long they
took from their arrival until they were processed.`,
		Example:           "  pg-tide inbox stats payment_triggers\n  pg-tide inbox stats payment_triggers --last 100000 --output json",
		ValidArgsFunction: p.completeNames("inbox_list", "inbox"),
		Args: func(cmd *cobra.Command, args []string) error {
			if last < 1 {
				return usagef("--last is %d: it must be 1 at least", last)
			}
			return exactArgs("INBOX")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			table := p.table("nothing has arrived yet", titled("event_type", "event type"), col("messages"), col("processed"), col("waiting"),
				col("dead"), col("retried"), titled("most_attempts", "most attempts"), titled("half_seconds", "half within s"),
				titled("p99_seconds", "99 % within s"), titled("last_received", "last received"))
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.list(ctx, conn, table, query("inbox_stats"), args[0], last)
			})
		},
	}
	command.Flags().IntVar(&last, "last", 10000, "look at the last `N` messages")
	p.outputFlag(command)
	return command
}
