package cli

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

func (p *program) captureCommand() *cobra.Command {
	return family("capture", "Turn the changes of tables into events",
		p.captureCreate(), p.captureList(), p.captureShow(), p.captureBackfill(), p.captureDrop())
}

func (p *program) captureList() *cobra.Command {
	command := &cobra.Command{
		Use:     "list",
		Short:   "List the captured tables and whether they still are",
		Example: "  pg-tide capture list\n  pg-tide capture list --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			table := p.table("no table is captured: `pg-tide capture create` and tide.outbox_capture do so",
				col("table"), col("outbox"), col("stream"), col("key"), col("state"), col("backfill"), titled("backfill_rows", "rows"), col("reason"))
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.list(ctx, conn, table, query("capture_list"))
			})
		},
	}
	p.outputFlag(command)
	return command
}

func (p *program) captureShow() *cobra.Command {
	command := &cobra.Command{
		Use:               "show TABLE",
		Short:             "Show how a table is captured, and how far its backfill is",
		Example:           "  pg-tide capture show orders\n  pg-tide capture show public.orders --output json",
		Args:              exactArgs("TABLE"),
		ValidArgsFunction: p.completeNames("capture_list", "table"),
		RunE: func(cmd *cobra.Command, args []string) error {
			missing := withHint(fmt.Errorf("table %q is not captured", args[0]), "`pg-tide capture list` shows which are")
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.detail(ctx, conn, missing, query("capture_show"), args[0])
			})
		},
	}
	p.outputFlag(command)
	return command
}

func (p *program) captureDrop() *cobra.Command {
	command := &cobra.Command{
		Use:               "drop TABLE",
		Short:             "Stop capturing a table; its events stay",
		Example:           "  pg-tide capture drop orders",
		Args:              exactArgs("TABLE"),
		ValidArgsFunction: p.completeNames("capture_list", "table"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withTable(cmd.Context(), args[0], func(ctx context.Context, conn *pgx.Conn, table int64) error {
				if _, err := conn.Exec(ctx, query("capture_drop"), table); err != nil {
					return err
				}
				return p.done(map[string]any{"table": args[0], "captured": false}, "table %s is no longer captured; what it published stays in the outbox", args[0])
			})
		},
	}
	p.outputFlag(command)
	return command
}

// withTable is withDatabase with the number of a table of the database.
func (p *program) withTable(ctx context.Context, name string, do func(ctx context.Context, conn *pgx.Conn, table int64) error) error {
	return p.withDatabase(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var table int64
		if err := conn.QueryRow(ctx, query("capture_table"), name).Scan(&table); err != nil {
			return err
		}
		if table == 0 {
			return withHint(fmt.Errorf("table %q does not exist, or is not in the search_path", name), "write it as in SQL: name, schema.name, or '\"Odd name\"'")
		}
		return do(ctx, conn, table)
	})
}
