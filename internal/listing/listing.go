// Package listing shows the rows of a query to people as a table and to
// programs as JSON whose names are the columns' names. It refuses to know
// what the rows are about.
package listing

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Column is one column of the rows.
type Column struct {
	Name string
	// Type is PostgreSQL's number for the column's type.
	Type uint32
}

// Rows are the result of a query, in PostgreSQL's own text form; null is nil.
type Rows struct {
	Columns []Column
	Values  [][]*string
}

// Querier is a connection, a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Read runs a query and keeps all its rows.
func Read(ctx context.Context, from Querier, sql string, args ...any) (Rows, error) {
	// Text form: JSON documents and numbers stay as PostgreSQL wrote them.
	args = append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)
	found, err := from.Query(ctx, sql, args...)
	if err != nil {
		return Rows{}, err
	}
	defer found.Close()
	var rows Rows
	for _, field := range found.FieldDescriptions() {
		rows.Columns = append(rows.Columns, Column{Name: field.Name, Type: field.DataTypeOID})
	}
	for found.Next() {
		var values []*string
		for _, raw := range found.RawValues() {
			if raw == nil {
				values = append(values, nil)
				continue
			}
			text := string(raw)
			values = append(values, &text)
		}
		rows.Values = append(rows.Values, values)
	}
	return rows, found.Err()
}

// Index returns the place of a column, or -1.
func (r Rows) Index(column string) int {
	for i := range r.Columns {
		if r.Columns[i].Name == column {
			return i
		}
	}
	return -1
}

// Text returns a value as text; null and unknown columns are "".
func (r Rows) Text(row int, column string) string {
	i := r.Index(column)
	if i < 0 || r.Values[row][i] == nil {
		return ""
	}
	return *r.Values[row][i]
}

// JSON returns the rows as an array of objects, columns in their order.
func (r Rows) JSON() (json.RawMessage, error) {
	var out strings.Builder
	out.WriteString("[")
	for i := range r.Values {
		if i > 0 {
			out.WriteString(",")
		}
		object, err := r.Object(i)
		if err != nil {
			return nil, err
		}
		out.Write(object)
	}
	out.WriteString("]")
	return json.RawMessage(out.String()), nil
}

// Object returns one row as a JSON object.
func (r Rows) Object(row int) (json.RawMessage, error) {
	var out strings.Builder
	out.WriteString("{")
	for i, column := range r.Columns {
		if i > 0 {
			out.WriteString(",")
		}
		name, err := json.Marshal(column.Name)
		if err != nil {
			return nil, fmt.Errorf("encode the column name %q: %w", column.Name, err)
		}
		value, err := encode(column.Type, r.Values[row][i])
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", column.Name, err)
		}
		out.Write(name)
		out.WriteString(":")
		out.Write(value)
	}
	out.WriteString("}")
	return json.RawMessage(out.String()), nil
}

// encode gives a value its JSON form.
func encode(kind uint32, value *string) ([]byte, error) {
	if value == nil {
		return []byte("null"), nil
	}
	switch kind {
	case pgtype.JSONOID, pgtype.JSONBOID:
		return []byte(*value), nil
	case pgtype.BoolOID:
		return json.Marshal(*value == "t")
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID:
		if json.Valid([]byte(*value)) {
			return []byte(*value), nil
		}
		// NaN and infinities have no number in JSON.
		return []byte("null"), nil
	case pgtype.TimestamptzOID:
		return json.Marshal(rfc3339(*value))
	}
	return json.Marshal(*value)
}

// rfc3339 turns "2026-01-02 03:04:05.6+00" into "2026-01-02T03:04:05.6+00:00".
func rfc3339(text string) string {
	date, clock, ok := strings.Cut(text, " ")
	if !ok || strings.Contains(clock, " ") {
		return text
	}
	if zone := strings.LastIndexAny(clock, "+-"); zone >= 0 && len(clock)-zone == len("+00") {
		clock += ":00"
	}
	return date + "T" + clock
}

// WriteJSON prints a value as indented JSON.
func WriteJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
