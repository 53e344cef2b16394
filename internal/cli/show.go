package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/listing"
)

// colours says whether output is painted: on a terminal, unless NO_COLOR is
// set to something (no-color.org) or the terminal is a dumb one.
func (p *program) colours() bool {
	if !p.OutIsTerminal {
		return false
	}
	if value, _ := p.lookup("NO_COLOR"); value != "" {
		return false
	}
	kind, _ := p.lookup("TERM")
	return kind != "dumb"
}

// table makes a table of columns, painted if the terminal takes it.
func (p *program) table(empty string, columns ...listing.Show) listing.Table {
	t := listing.Table{Columns: columns, Empty: empty}
	if p.colours() {
		t.Paint = paintState
	}
	return t
}

const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	dim    = "\x1b[2m"
)

// paintState colours the words that say how something is.
func paintState(column, text string) string {
	switch column {
	case "state":
		switch text {
		case "running", "pending", "enabled", "capturing":
			return green
		case "starting", "waiting", "partial":
			return yellow
		case "blocked", "misconfigured", "unowned", "stopped", "dead":
			return red
		case "paused", "processed", "disabled":
			return dim
		}
	case "error", "last_error":
		return dim
	}
	return ""
}

// col is a column of a table.
func col(name string) listing.Show { return listing.Show{Column: name} }

// titled is a column of a table under another title.
func titled(name, title string) listing.Show { return listing.Show{Column: name, Title: title} }

// list runs a query and shows its rows the way --output asks for.
func (p *program) list(ctx context.Context, conn *pgx.Conn, table listing.Table, sql string, args ...any) error {
	rows, err := listing.Read(ctx, conn, sql, args...)
	if err != nil {
		return err
	}
	if p.settings.output != outputJSON {
		table.Write(p.Out, rows)
		return nil
	}
	array, err := rows.JSON()
	if err != nil {
		return err
	}
	return listing.WriteJSON(p.Out, array)
}

// detail shows one row, or fails with missing when there is none.
func (p *program) detail(ctx context.Context, conn *pgx.Conn, missing error, sql string, args ...any) error {
	rows, err := listing.Read(ctx, conn, sql, args...)
	if err != nil {
		return err
	}
	if len(rows.Values) == 0 {
		return missing
	}
	if p.settings.output != outputJSON {
		listing.Details(p.Out, rows, 0)
		return nil
	}
	object, err := rows.Object(0)
	if err != nil {
		return err
	}
	return listing.WriteJSON(p.Out, object)
}

// done says what happened: a sentence, or with --output json an object.
func (p *program) done(result map[string]any, format string, args ...any) error {
	if p.settings.output == outputJSON {
		encoded, err := json.Marshal(result)
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		return listing.WriteJSON(p.Out, json.RawMessage(encoded))
	}
	fmt.Fprintf(p.Out, format+"\n", args...)
	return nil
}
