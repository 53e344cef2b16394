package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

// settling is one of the commands that say what becomes of messages.
type settling struct {
	use, short, all string
	// statement takes an inbox, ids and whether all are meant; it returns how
	// many it changed.
	statement, outcome string
	destructive        bool
}

// inboxSettle makes one of them: it takes an inbox and ids, or --all.
func (p *program) inboxSettle(s settling) *cobra.Command {
	var all, yes bool
	command := &cobra.Command{
		Use:               s.use + " INBOX [ID…]",
		Short:             s.short,
		Example:           fmt.Sprintf("  pg-tide inbox %[1]s payment_triggers 17 18\n  pg-tide inbox %[1]s payment_triggers --all", s.use),
		ValidArgsFunction: p.completeNames("inbox_list", "inbox"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs an INBOX, and ids or --all", cmd.CommandPath())
			}
			if all == (len(args) > 1) {
				return usagef("%s needs either ids or --all", cmd.CommandPath())
			}
			_, err := messageIDs(args[1:])
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := messageIDs(args[1:])
			if err != nil {
				return err
			}
			return p.settleMessages(cmd.Context(), s, args[0], ids, all, yes)
		},
	}
	command.Flags().BoolVar(&all, "all", false, s.all)
	if s.destructive {
		yesFlag(command, &yes)
	}
	p.outputFlag(command)
	return command
}

func (p *program) settleMessages(ctx context.Context, s settling, inbox string, ids []int64, all, yes bool) error {
	return p.withDatabase(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if s.destructive {
			if err := p.confirm(yes, fmt.Sprintf("%s dead letters of inbox %q", s.use, inbox)); err != nil {
				return err
			}
		}
		var count int64
		if err := conn.QueryRow(ctx, query(s.statement), inbox, ids, all).Scan(&count); err != nil {
			return err
		}
		return p.done(map[string]any{"inbox": inbox, "count": count}, "%s of inbox %q: %s", counted(strconv.FormatInt(count, 10), "message"), inbox, s.outcome)
	})
}

func messageIDs(args []string) ([]int64, error) {
	return idsOf(args, "message", "pg-tide inbox messages")
}

// idsOf reads ids; what they are of and where they are shown is for the error.
func idsOf(args []string, of, shown string) ([]int64, error) {
	ids := make([]int64, 0, len(args))
	for _, arg := range args {
		id, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || id <= 0 {
			return nil, withHint(usagef("%q is not the id of a %s", arg, of), "ids are the numbers that `"+shown+"` shows")
		}
		ids = append(ids, id)
	}
	return ids, nil
}
