package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

func (p *program) deadLetterCommand() *cobra.Command {
	return family("dead-letter", "List, show, retry and discard events that could not be delivered",
		p.deadLetterList(), p.deadLetterShow(),
		p.deadLetterSettle("retry", "Try dead letters again", "dead_letter_retry", "will be tried again", false),
		p.deadLetterSettle("discard", "Delete dead letters for good", "dead_letter_discard", "deleted", true))
}

func (p *program) deadLetterList() *cobra.Command {
	var pipeline, inbox string
	var limit int
	command := &cobra.Command{
		Use:     "list",
		Short:   "List dead letters, the newest first",
		Example: "  pg-tide dead-letter list\n  pg-tide dead-letter list --pipeline orders-to-nats --output json\n  pg-tide dead-letter list --inbox payment_triggers",
		Args: func(cmd *cobra.Command, args []string) error {
			if pipeline != "" && inbox != "" {
				return usagef("%s takes --pipeline or --inbox, not both", cmd.CommandPath())
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			table := p.table("there are no dead letters",
				col("id"), col("pipeline"), col("event_id"), col("stream"), col("key"), col("attempts"), titled("failed_at", "failed"), col("error"))
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				if inbox != "" {
					return p.list(ctx, conn, p.messagesTable("there are no dead letters"), query("inbox_messages"), inbox, "dead", nil, limit)
				}
				return p.list(ctx, conn, table, query("dead_letter_list"), nullable(pipeline), limit)
			})
		},
	}
	command.Flags().StringVar(&pipeline, "pipeline", "", "only those of this `PIPELINE`")
	command.Flags().StringVar(&inbox, "inbox", "", "those of this `INBOX` instead: messages that could not be processed")
	command.Flags().IntVar(&limit, "limit", 100, "at most `N` of them")
	p.outputFlag(command)
	return command
}

func (p *program) deadLetterShow() *cobra.Command {
	command := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a dead letter whole: event, bytes and error",
		Example: "  pg-tide dead-letter show 17",
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := letterIDs(args)
			if err != nil {
				return err
			}
			missing := withHint(fmt.Errorf("dead letter %d does not exist", ids[0]), "`pg-tide dead-letter list` shows which do")
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.detail(ctx, conn, missing, query("dead_letter_show"), ids[0])
			})
		},
	}
	p.outputFlag(command)
	return command
}

// deadLetterSettle makes retry and discard: both take a pipeline and ids, or --all.
func (p *program) deadLetterSettle(use, short, statement, outcome string, destructive bool) *cobra.Command {
	var all, yes bool
	var inbox string
	command := &cobra.Command{
		Use:               use + " PIPELINE|--inbox INBOX [ID…]",
		Short:             short,
		Example:           fmt.Sprintf("  pg-tide dead-letter %[1]s orders-to-nats 17 18\n  pg-tide dead-letter %[1]s orders-to-nats --all\n  pg-tide dead-letter %[1]s --inbox payment_triggers 42", use),
		ValidArgsFunction: p.completeNames("pipeline_list", "pipeline"),
		Args: func(cmd *cobra.Command, args []string) error {
			ids := args
			if inbox == "" {
				if len(args) == 0 {
					return usagef("%s needs a PIPELINE or --inbox, and ids or --all", cmd.CommandPath())
				}
				ids = args[1:]
			}
			if all == (len(ids) > 0) {
				return usagef("%s needs either ids or --all", cmd.CommandPath())
			}
			_, err := letterIDs(ids)
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if inbox != "" {
				ids, err := letterIDs(args)
				if err != nil {
					return err
				}
				return p.settleMessages(cmd.Context(), settling{use: use, statement: "inbox_" + use, outcome: outcome, destructive: destructive}, inbox, ids, all, yes)
			}
			ids, err := letterIDs(args[1:])
			if err != nil {
				return err
			}
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				if destructive {
					if err := p.confirm(yes, fmt.Sprintf("%s dead letters of pipeline %q", use, args[0])); err != nil {
						return err
					}
				}
				var count int64
				if err := conn.QueryRow(ctx, query(statement), args[0], ids, all).Scan(&count); err != nil {
					return err
				}
				return p.done(map[string]any{"pipeline": args[0], "count": count}, "%s of pipeline %q: %s", counted(strconv.FormatInt(count, 10), "dead letter"), args[0], outcome)
			})
		},
	}
	command.Flags().BoolVar(&all, "all", false, "all of the pipeline's, or of the inbox's")
	command.Flags().StringVar(&inbox, "inbox", "", "dead letters of this `INBOX` instead of a pipeline")
	if destructive {
		yesFlag(command, &yes)
	}
	p.outputFlag(command)
	return command
}

func letterIDs(args []string) ([]int64, error) {
	return idsOf(args, "dead letter", "pg-tide dead-letter list")
}
