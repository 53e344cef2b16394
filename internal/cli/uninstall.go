package cli

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/schema"
)

func (p *program) uninstallCommand() *cobra.Command {
	var yes bool
	command := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the schema tide from a database, and nothing else",
		Long: `Shows what would go and asks before anything is removed. Without a terminal it
refuses while there is data, unless --yes is given. Roles stay: they belong to
the whole server.`,
		Example: "  pg-tide uninstall --postgres-url postgres://user:pass@orders-db/orders\n  pg-tide uninstall --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return asWritten(p.uninstall(ctx, conn, yes))
			})
		},
	}
	yesFlag(command, &yes)
	p.outputFlag(command)
	return command
}

func (p *program) uninstall(ctx context.Context, conn *pgx.Conn, yes bool) error {
	where := catalog.Where(conn)
	plan, err := schema.PlanUninstall(ctx, conn)
	if err != nil {
		return err
	}
	if plan.Version == "" {
		return p.done(map[string]any{"removed": false}, "the schema tide is not in %s: there is nothing to remove", where)
	}
	fmt.Fprintf(p.Err, "schema tide %s in %s would go, with %s\n", plan.Version, where, plan)
	// Without a terminal what holds no data goes without a question.
	if plan.HasData() || p.InIsTerminal {
		if err := p.confirm(yes, "remove it"); err != nil {
			return err
		}
	}
	gone, err := schema.Uninstall(ctx, conn, schema.Options{DropData: plan.HasData()})
	if err != nil {
		return err
	}
	return p.done(map[string]any{"removed": true, "version": gone.Version}, "schema tide %s is removed from %s", gone.Version, where)
}
