package cli

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

func (p *program) inboxCommand() *cobra.Command {
	return family("inbox", "Look into inboxes, and settle what went wrong in them",
		p.inboxList(), p.inboxShow(), p.inboxMessages(), p.inboxStats(),
		p.inboxSettle(settling{use: "replay", short: "Work messages again: processed ones, dead ones, or all dead ones",
			all: "all dead letters", statement: "inbox_replay", outcome: "pending again"}),
		p.inboxSettle(settling{use: "retry", short: "Try dead and delayed messages again, now",
			all: "all dead and delayed ones", statement: "inbox_retry", outcome: "to be had now"}),
		p.inboxSettle(settling{use: "discard", short: "Put dead letters aside for good",
			all: "all dead letters", statement: "inbox_discard", outcome: "put aside", destructive: true}))
}

func (p *program) inboxList() *cobra.Command {
	command := &cobra.Command{
		Use:     "list",
		Short:   "List the inboxes and what waits in them",
		Example: "  pg-tide inbox list\n  pg-tide inbox list --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.list(ctx, conn, p.inboxTable("there is no inbox: tide.inbox_create makes one"), query("inbox_list"))
			})
		},
	}
	p.outputFlag(command)
	return command
}

func (p *program) inboxShow() *cobra.Command {
	command := &cobra.Command{
		Use:               "show INBOX",
		Short:             "Show an inbox's settings and what waits in it",
		Example:           "  pg-tide inbox show payment_triggers",
		Args:              exactArgs("INBOX"),
		ValidArgsFunction: p.completeNames("inbox_list", "inbox"),
		RunE: func(cmd *cobra.Command, args []string) error {
			missing := withHint(fmt.Errorf("inbox %q does not exist", args[0]), "`pg-tide inbox list` shows which do")
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.detail(ctx, conn, missing, query("inbox_show"), args[0])
			})
		},
	}
	p.outputFlag(command)
	return command
}
