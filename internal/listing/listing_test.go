package listing_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pg-tide/pg-tide/internal/listing"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func text(s string) *string { return &s }

func TestJSONKeepsWhatPostgreSQLWrote(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t, 0))
	rows, err := listing.Read(t.Context(), pool, `
		select 1::bigint as id, 12345678901234567890.123456789::numeric as exact, 'NaN'::float8 as nan, true as yes, null::text as nothing,
		       '{"b": 1, "a": 12345678901234567890}'::jsonb as document, E'quote " and\nline'::text as said,
		       '2026-01-02 03:04:05.678+00'::timestamptz as at, '1 day 02:00'::interval as every,
		       'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'::uuid as uuid where $1::int = 7`, 7)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rows.JSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"id":1,"exact":12345678901234567890.123456789,"nan":null,"yes":true,"nothing":null,` +
		`"document":{"a": 12345678901234567890, "b": 1},"said":"quote \" and\nline","at":"2026-01-02T03:04:05.678+00:00",` +
		`"every":"1 day 02:00:00","uuid":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}]`
	if string(got) != want || !json.Valid(got) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTableAlignsAndStaysOnOneLine(t *testing.T) {
	t.Parallel()
	rows := listing.Rows{
		Columns: []listing.Column{{Name: "name"}, {Name: "n", Type: pgtype.Int8OID}, {Name: "ok", Type: pgtype.BoolOID},
			{Name: "at", Type: pgtype.TimestamptzOID}, {Name: "note"}},
		Values: [][]*string{
			{text("ünï"), text("7"), text("t"), text("2026-01-02 03:04:05.678+00"), text("two\nlines\x1b[2J")},
			{text("longer name"), text("12345"), text("f"), nil, nil},
		},
	}
	var out bytes.Buffer
	listing.Table{Columns: []listing.Show{{Column: "name"}, {Column: "n", Title: "count"}, {Column: "missing"}, {Column: "ok"}, {Column: "at"}, {Column: "note"}}}.Write(&out, rows)
	want := strings.Join([]string{
		"name         count  ok   at                      note",
		"ünï              7  yes  2026-01-02 03:04:05+00  two lines\\x1b[2J",
		"longer name  12345  no",
		"",
	}, "\n")
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestEmptyTableSaysSo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	listing.Table{Empty: "nothing here"}.Write(&out, listing.Rows{})
	if out.String() != "nothing here\n" {
		t.Errorf("got %q", out.String())
	}
	if got, err := (listing.Rows{}).JSON(); err != nil || string(got) != "[]" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestPaintWrapsTheCellAndNotTheColumn(t *testing.T) {
	t.Parallel()
	rows := listing.Rows{Columns: []listing.Column{{Name: "state"}}, Values: [][]*string{{text("running")}}}
	var out bytes.Buffer
	listing.Table{Columns: []listing.Show{{Column: "state"}}, Paint: func(_, s string) string {
		if s == "running" {
			return "\x1b[32m"
		}
		return ""
	}}.Write(&out, rows)
	if !strings.Contains(out.String(), "\x1b[32mrunning\x1b[0m") {
		t.Errorf("got %q", out.String())
	}
}
