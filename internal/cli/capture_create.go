package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

const captureCreateHelp = `Publishes inserts, updates and deletes of a table to an outbox from now on, by triggers
that run once a statement. For a table that is captured already it changes how.

It waits for everybody who is writing to the table at that moment. The database role
must own the table and be a member of tide_admin. See docs/capture.md.`

func (p *program) captureCreate() *cobra.Command {
	var fill bool
	command := &cobra.Command{
		Use:   "create TABLE OUTBOX",
		Short: "Capture a table, or change how it is captured",
		Long:  captureCreateHelp,
		Example: `  pg-tide capture create orders order_events
  pg-tide capture create orders order_events --exclude notes --mask email,phone --backfill
  pg-tide capture create orders order_events --when '$.status == "paid"' --old-values`,
		Args:              exactArgs("TABLE", "OUTBOX"),
		ValidArgsFunction: p.completeNames("capture_list", "table"),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := captureOptions(cmd)
			if err != nil {
				return err
			}
			return p.withTable(cmd.Context(), args[0], func(ctx context.Context, conn *pgx.Conn, table int64) error {
				var created bool
				if err := conn.QueryRow(ctx, query("capture_create"), table, args[1], options).Scan(&created); err != nil {
					return err
				}
				if fill {
					return p.backfill(ctx, conn, table, backfillOf{table: args[0], chunk: defaultChunk})
				}
				result := map[string]any{"table": args[0], "outbox": args[1], "created": created}
				if !created {
					return p.done(result, "table %s is captured into outbox %q in this way from now on", args[0], args[1])
				}
				return p.done(result, "table %s is captured into outbox %q; its present rows: `pg-tide capture backfill %[1]s`", args[0], args[1])
			})
		},
	}
	flags := command.Flags()
	flags.String("stream", "", "`STREAM` of the events (default the table's name)")
	flags.StringSlice("key", nil, "`COLUMNS` of the key by which order is kept (default the primary key)")
	flags.StringSlice("columns", nil, "only these `COLUMNS` are in the events (default all)")
	flags.StringSlice("exclude", nil, "`COLUMNS` that are left out")
	flags.StringSlice("mask", nil, "`COLUMNS` whose values are replaced by ***")
	flags.String("when", "", "only rows for which this JSON `PATH` is true; $ is the row, $old the row before, $op the op")
	flags.Bool("old-values", false, "updates hold the row before in \"old\"")
	flags.String("event-type", "", "`TYPE` of the events, {op} is filled in (default STREAM.{op})")
	flags.String("truncate", "refuse", "`WHAT` truncate does: refuse (it fails) or publish (an event)")
	flags.BoolVar(&fill, "backfill", false, "publish the rows that are there already too")
	p.outputFlag(command)
	return command
}

// captureOptions makes the options of tide.outbox_capture from the flags that were given.
func captureOptions(cmd *cobra.Command) (string, error) {
	flags := cmd.Flags()
	options := map[string]any{}
	for flag, option := range map[string]string{"stream": "stream", "when": "when", "event-type": "event_type", "truncate": "truncate"} {
		if value, err := flags.GetString(flag); err == nil && flags.Changed(flag) {
			options[option] = value
		}
	}
	for _, flag := range []string{"key", "columns", "exclude", "mask"} {
		if value, err := flags.GetStringSlice(flag); err == nil && flags.Changed(flag) {
			options[flag] = value
		}
	}
	if value, err := flags.GetBool("old-values"); err == nil && flags.Changed("old-values") {
		options["old_values"] = value
	}
	encoded, err := json.Marshal(options)
	if err != nil {
		return "", fmt.Errorf("encode the options: %w", err)
	}
	return string(encoded), nil
}
