package cli

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

func (p *program) pipelineCommand() *cobra.Command {
	return family("pipeline", "List, show, test, pause, resume, adopt and delete pipelines",
		p.pipelineList(), p.pipelineShow(), p.pipelineTest(),
		p.pipelineSwitch("pause", "Stop a pipeline; what waits for it is kept", "pipeline_pause", "paused"),
		p.pipelineSwitch("resume", "Let a paused pipeline go on from where it was", "pipeline_resume", "resumed"),
		p.pipelineAdopt(), p.pipelineDelete())
}

func (p *program) pipelineList() *cobra.Command {
	command := &cobra.Command{
		Use:     "list",
		Short:   "List the pipelines that are configured",
		Example: "  pg-tide pipeline list\n  pg-tide pipeline list --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			table := p.table("no pipeline is configured: tide.relay_set_outbox and tide.relay_set_inbox make one",
				col("pipeline"), col("direction"), col("endpoint"), col("technology"), col("enabled"), titled("updated_at", "changed"))
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.list(ctx, conn, table, query("pipeline_list"))
			})
		},
	}
	p.outputFlag(command)
	return command
}

func (p *program) pipelineShow() *cobra.Command {
	command := &cobra.Command{
		Use:               "show PIPELINE",
		Short:             "Show a pipeline's configuration and state, secrets masked",
		Example:           "  pg-tide pipeline show orders-to-nats",
		Args:              exactArgs("PIPELINE"),
		ValidArgsFunction: p.completeNames("pipeline_list", "pipeline"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				return p.detail(ctx, conn, noPipeline(args[0]), query("pipeline_show"), args[0])
			})
		},
	}
	p.outputFlag(command)
	return command
}

// pipelineSwitch makes pause and resume, which differ in one word.
func (p *program) pipelineSwitch(use, short, statement, past string) *cobra.Command {
	command := &cobra.Command{
		Use:               use + " PIPELINE",
		Short:             short,
		Example:           fmt.Sprintf("  pg-tide pipeline %s orders-to-nats", use),
		Args:              exactArgs("PIPELINE"),
		ValidArgsFunction: p.completeNames("pipeline_list", "pipeline"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				var changed bool
				if err := conn.QueryRow(ctx, query(statement), args[0]).Scan(&changed); err != nil {
					return err
				}
				result := map[string]any{"pipeline": args[0], "changed": changed}
				if !changed {
					return p.done(result, "pipeline %q was %s already", args[0], past)
				}
				return p.done(result, "pipeline %q is %s", args[0], past)
			})
		},
	}
	p.outputFlag(command)
	return command
}

func (p *program) pipelineDelete() *cobra.Command {
	var yes bool
	command := &cobra.Command{
		Use:   "delete PIPELINE",
		Short: "Delete a pipeline, its position and its dead letters",
		Long: "Deletes a pipeline's configuration, its position and its dead letters. Events stay in\n" +
			"their outbox for its retention; a new pipeline of the same name starts at the oldest of them.",
		Example:           "  pg-tide pipeline delete orders-to-nats\n  pg-tide pipeline delete orders-to-nats --yes",
		Args:              exactArgs("PIPELINE"),
		ValidArgsFunction: p.completeNames("pipeline_list", "pipeline"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withDatabase(cmd.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				if err := p.confirm(yes, fmt.Sprintf("delete pipeline %q with its position and dead letters", args[0])); err != nil {
					return err
				}
				if _, err := conn.Exec(ctx, query("pipeline_delete"), args[0]); err != nil {
					return err
				}
				return p.done(map[string]any{"pipeline": args[0], "deleted": true}, "pipeline %q is deleted", args[0])
			})
		},
	}
	yesFlag(command, &yes)
	p.outputFlag(command)
	return command
}

func noPipeline(name string) error {
	return withHint(fmt.Errorf("pipeline %q does not exist", name), "`pg-tide pipeline list` shows which do")
}
