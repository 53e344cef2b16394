package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
)

const captureBackfillHelp = `Publishes the rows that a captured table has as events with the op "read", in chunks, each
in a transaction of its own, in the order of the primary key and in order with live changes.

It may be stopped at any time and goes on where it stopped when it is called again, also
from elsewhere. The rows of a chunk are locked against changes until it is committed.`

// defaultChunk is how many rows a transaction publishes.
const defaultChunk = 1000

// backfillOf says what to backfill.
type backfillOf struct {
	table   string
	chunk   int
	restart bool
}

func (p *program) captureBackfill() *cobra.Command {
	var of backfillOf
	command := &cobra.Command{
		Use:               "backfill TABLE",
		Short:             "Publish the rows that a captured table has already",
		Long:              captureBackfillHelp,
		Example:           "  pg-tide capture backfill orders\n  pg-tide capture backfill orders --chunk 5000\n  pg-tide capture backfill orders --restart --output json",
		Args:              exactArgs("TABLE"),
		ValidArgsFunction: p.completeNames("capture_list", "table"),
		RunE: func(cmd *cobra.Command, args []string) error {
			of.table = args[0]
			return p.withTable(cmd.Context(), args[0], func(ctx context.Context, conn *pgx.Conn, table int64) error {
				return p.backfill(ctx, conn, table, of)
			})
		},
	}
	command.Flags().IntVar(&of.chunk, "chunk", defaultChunk, "`ROWS` a transaction, from 1 to 100000")
	command.Flags().BoolVar(&of.restart, "restart", false, "begin anew, also when it had finished")
	p.outputFlag(command)
	return command
}

// backfill publishes chunk after chunk. Each is committed by itself.
func (p *program) backfill(ctx context.Context, conn *pgx.Conn, table int64, of backfillOf) error {
	var rows, done, total, published int64
	retries := 0
	for finished := false; !finished; {
		err := conn.QueryRow(ctx, query("capture_backfill"), table, of.chunk, of.restart).Scan(&rows, &done, &total, &finished)
		if retries < mostRetries && undone(err) {
			retries++
			continue
		}
		if err != nil {
			p.progressEnd()
			if published > 0 {
				return fmt.Errorf("after %d rows, from where it will go on: %w", done, err)
			}
			return err
		}
		of.restart, retries = false, 0
		published += rows
		p.progress("%s: %d of %d rows", of.table, done, total)
	}
	p.progressEnd()
	result := map[string]any{"table": of.table, "rows": published, "done": done, "finished": true}
	if published == 0 && done > 0 {
		return p.done(result, "the backfill of table %s had finished with %d rows; --restart begins anew", of.table, done)
	}
	return p.done(result, "%d rows of table %s are published, and the backfill is finished", published, of.table)
}

// mostRetries of one chunk are done before its error is the command's.
const mostRetries = 10

// undone says that a transaction fell victim to another that locked the same
// rows, and can be done again.
func undone(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && (server.Code == "40P01" || server.Code == "40001")
}

// progress draws the line that moves, where a person sees it.
func (p *program) progress(format string, args ...any) {
	if p.ErrIsTerminal {
		fmt.Fprintf(p.Err, "\r\x1b[K"+format, args...)
	}
}

// progressEnd clears the line that moves.
func (p *program) progressEnd() {
	if p.ErrIsTerminal {
		fmt.Fprint(p.Err, "\r\x1b[K")
	}
}
