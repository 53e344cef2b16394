package listing

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// Show is one column of a table for people.
type Show struct {
	// Column is the column of the rows.
	Column string
	// Title is what stands above it; Column when empty.
	Title string
}

// Table says how rows are shown.
type Table struct {
	Columns []Show
	// Paint returns the escape sequence that a cell is printed in, or ""; nil
	// for no colour at all.
	Paint func(column, text string) string
	// Empty is what is printed when there are no rows.
	Empty string
}

const (
	bold  = "\x1b[1m"
	reset = "\x1b[0m"
)

// Write prints the rows. Columns that the rows do not have are left out.
func (t Table) Write(w io.Writer, rows Rows) {
	if len(rows.Values) == 0 {
		if t.Empty != "" {
			fmt.Fprintln(w, t.Empty)
		}
		return
	}
	var shown []Show
	for _, show := range t.Columns {
		if rows.Index(show.Column) >= 0 {
			shown = append(shown, show)
		}
	}
	cells := make([][]string, len(rows.Values))
	for i := range rows.Values {
		for _, show := range shown {
			cells[i] = append(cells[i], cell(rows, i, show.Column))
		}
	}
	t.print(w, rows, shown, cells)
}

func (t Table) print(w io.Writer, rows Rows, shown []Show, cells [][]string) {
	width := make([]int, len(shown))
	for c, show := range shown {
		width[c] = utf8.RuneCountInString(title(show))
		for i := range cells {
			width[c] = max(width[c], utf8.RuneCountInString(cells[i][c]))
		}
	}
	var line strings.Builder
	for c, show := range shown {
		last := c == len(shown)-1
		line.WriteString(t.painted(bold, pad(title(show), width[c], numeric(rows, show.Column), last)))
		if !last {
			line.WriteString("  ")
		}
	}
	fmt.Fprintln(w, line.String())
	for i := range cells {
		line.Reset()
		for c, show := range shown {
			last := c == len(shown)-1
			text := pad(cells[i][c], width[c], numeric(rows, show.Column), last)
			paint := ""
			if t.Paint != nil {
				paint = t.Paint(show.Column, cells[i][c])
			}
			line.WriteString(t.painted(paint, text))
			if !last {
				line.WriteString("  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func (t Table) painted(sequence, text string) string {
	if t.Paint == nil || sequence == "" {
		return text
	}
	return sequence + text + reset
}

func title(show Show) string {
	if show.Title != "" {
		return show.Title
	}
	return show.Column
}

// cell is a value as people read it: times without fractions, one line, null as nothing.
func cell(rows Rows, row int, column string) string {
	i := rows.Index(column)
	if rows.Values[row][i] == nil {
		return ""
	}
	text := *rows.Values[row][i]
	switch rows.Columns[i].Type {
	case pgtype.TimestamptzOID:
		date, fraction, found := strings.Cut(text, ".")
		if found {
			return date + strings.TrimLeft(fraction, "0123456789")
		}
	case pgtype.BoolOID:
		if text == "t" {
			return "yes"
		}
		return "no"
	}
	return Plain(text)
}

// Plain makes text safe to print: control characters, which could move a
// terminal's cursor or change its settings, become visible.
func Plain(text string) string {
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t':
			out.WriteRune(' ')
		case isControl(r):
			fmt.Fprintf(&out, "\\x%02x", r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

func numeric(rows Rows, column string) bool {
	switch rows.Columns[rows.Index(column)].Type {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID:
		return true
	}
	return false
}

// pad fills text up to width: numbers to the right, and nothing after the last column.
func pad(text string, width int, right, last bool) string {
	fill := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
	switch {
	case right:
		return fill + text
	case last:
		return text
	}
	return text + fill
}

// Details prints one row as a list of names and values.
func Details(w io.Writer, rows Rows, row int) {
	width := 0
	for _, column := range rows.Columns {
		width = max(width, utf8.RuneCountInString(column.Name))
	}
	for _, column := range rows.Columns {
		fmt.Fprintln(w, strings.TrimRight(pad(column.Name, width, false, false)+"  "+cell(rows, row, column.Name), " "))
	}
}
