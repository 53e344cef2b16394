package cli

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

func (p *program) inboxCommand() *cobra.Command {
	return family("inbox", "List and show inboxes", p.inboxList(), p.inboxShow())
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
