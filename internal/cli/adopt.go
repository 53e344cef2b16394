package cli

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

func (p *program) pipelineAdopt() *cobra.Command {
	var all bool
	command := &cobra.Command{
		Use:   "adopt PIPELINE",
		Short: "Let a pipeline go on that stopped after a restore or a copy",
		Long: "Lets a pipeline go on that stopped because its database is a copy, was restored or upgraded,\n" +
			"or lost what its far end has. It says what that means. A pipeline may then stop for another\n" +
			"reason, such as messages that its stream has removed; adopting it again accepts that.",
		Example: "  pg-tide pipeline adopt orders-to-nats\n  pg-tide pipeline adopt --all",
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return noArgs(args)
			}
			return exactArgs("PIPELINE, or --all")(cmd, args)
		},
		ValidArgsFunction: p.completeNames("pipeline_list", "pipeline"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				if all {
					return p.adoptAll(ctx, conn)
				}
				done, err := adopt(ctx, conn, args[0])
				if err != nil {
					return err
				}
				return p.done(map[string]any{"pipeline": args[0], "done": done}, "%s", done)
			})
		},
	}
	command.Flags().BoolVar(&all, "all", false, "all pipelines that were configured in another database")
	p.outputFlag(command)
	return command
}

func adopt(ctx context.Context, conn *pgx.Conn, pipeline string) (done string, err error) {
	err = conn.QueryRow(ctx, query("pipeline_adopt"), pipeline).Scan(&done)
	return done, err
}

// adoptAll speaks for the database as a whole. It accepts no gap: only who
// names a pipeline can mean that.
func (p *program) adoptAll(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, query("pipeline_adoptable"))
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := adopt(ctx, conn, name); err != nil {
			return err
		}
	}
	return p.done(map[string]any{"pipelines": names}, "%s", adopted(len(names)))
}

func adopted(n int) string {
	switch n {
	case 0:
		return "every pipeline was configured in this database already"
	case 1:
		return "1 pipeline runs in this database from now on"
	}
	return fmt.Sprintf("%d pipelines run in this database from now on", n)
}
