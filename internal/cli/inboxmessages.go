package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/listing"
)

// messageStates are what --state takes, in the words of the listing.
var messageStates = []string{"pending", "delayed", "in flight", "dead", "processed"}

func (p *program) inboxMessages() *cobra.Command {
	var state, key string
	var limit int
	command := &cobra.Command{
		Use:   "messages INBOX [ID]",
		Short: "List the messages of an inbox, oldest first, or show one whole",
		Example: "  pg-tide inbox messages payment_triggers --state dead\n  pg-tide inbox messages payment_triggers --key ORD-42 --output json\n" +
			"  pg-tide inbox messages payment_triggers 17",
		ValidArgsFunction: p.completeNames("inbox_list", "inbox"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return usagef("%s needs an INBOX, and at most one ID", cmd.CommandPath())
			}
			if state = strings.ReplaceAll(state, "-", " "); state != "" && !slices.Contains(messageStates, state) {
				return usagef("--state is %q: it must be one of %s", state, strings.Join(messageStates, ", "))
			}
			if limit < 1 {
				return usagef("--limit is %d: it must be 1 at least", limit)
			}
			_, err := messageIDs(args[1:])
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := messageIDs(args[1:])
			if err != nil {
				return err
			}
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				if len(ids) == 1 {
					missing := withHint(fmt.Errorf("inbox %q has no message %d", args[0], ids[0]), "`pg-tide inbox messages "+args[0]+"` lists them")
					return p.detail(ctx, conn, missing, query("inbox_message"), args[0], ids[0])
				}
				return p.list(ctx, conn, p.messagesTable("there are no such messages"), query("inbox_messages"), args[0], nullable(state), nullable(key), limit)
			})
		},
	}
	command.Flags().StringVar(&state, "state", "", "only those that are pending, delayed, in-flight, dead or processed")
	command.Flags().StringVar(&key, "key", "", "only those of this `KEY`")
	command.Flags().IntVar(&limit, "limit", 100, "at most `N` of them")
	p.complete(command, "state", "pending", "delayed", "in-flight", "dead", "processed")
	p.outputFlag(command)
	return command
}

func (p *program) messagesTable(empty string) listing.Table {
	return p.table(empty, col("id"), col("event_id"), col("event_type"), col("key"), col("state"),
		col("attempts"), titled("received_at", "received"), col("until"), col("worker"), col("error"))
}
