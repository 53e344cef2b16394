package cli

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/listing"
)

// completionTimeout bounds what a shell waits for after the tab key.
const completionTimeout = 2 * time.Second

// completeNames lets a shell complete the first argument with what a listing
// has in a column. A database that cannot be asked completes nothing.
func (p *program) completeNames(statement, column string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || p.prepare(cmd, args) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		var found []string
		// Without a database there is nothing to propose, and no place to say why.
		_ = p.withDatabase(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			rows, err := listing.Read(ctx, conn, query(statement))
			if err != nil {
				return err
			}
			for i := range rows.Values {
				found = append(found, rows.Text(i, column))
			}
			return nil
		})
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
