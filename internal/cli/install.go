package cli

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/schema"
)

func (p *program) installCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "install",
		Short: "Install or upgrade the schema tide in a database",
		Long: `Installs the schema tide, or upgrades it in place. It needs no superuser and no
files on the server: it does by plain SQL what CREATE EXTENSION pg_tide does
where the extension's files can be placed. Running it again changes nothing.`,
		Example: "  pg-tide install --postgres-url postgres://user:pass@orders-db/orders",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return asWritten(p.install(ctx, conn))
			})
		},
	}
	p.outputFlag(command)
	return command
}

func (p *program) install(ctx context.Context, conn *pgx.Conn) error {
	before, err := schema.Version(ctx, conn)
	if err != nil {
		return err
	}
	if err := schema.Install(ctx, conn); err != nil {
		return err
	}
	result := map[string]any{"from_version": nullable(before), "version": schema.Current}
	switch before {
	case "":
		return p.done(result, "schema tide %s is installed in %s", schema.Current, catalog.Where(conn))
	case schema.Current:
		return p.done(result, "schema tide %s is in %s already", schema.Current, catalog.Where(conn))
	}
	return p.done(result, "schema tide in %s is upgraded from %s to %s", catalog.Where(conn), before, schema.Current)
}
