package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/relay"
)

// root is where the generator runs: its paths start there.
const root = "../../.."

func TestGeneratedFilesEqualTheirSource(t *testing.T) {
	t.Chdir(root)
	if err := run(true); err != nil {
		t.Error(err)
	}
}

func TestCheckFailsAndWritesNothingWhenAFileDiffers(t *testing.T) {
	t.Chdir(copyOfFiles(t))
	const path = "docs/configuration.md"
	if err := run(true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(true); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "make generate") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "edited" {
		t.Errorf("the check wrote %q, %v", text, err)
	}
	if err := run(false); err != nil {
		t.Fatal(err)
	}
	if err := run(true); err != nil {
		t.Errorf("after generating: %v", err)
	}
}

// copyOfFiles copies the generated files into a directory of the test's own.
func copyOfFiles(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	paths := []string{"docs/configuration.md", "docs/inbox-push.md", "docs/technologies.md", "schema/functions/config_keys.sql"}
	for _, pattern := range []string{"docs/sinks/*.md", "docs/sources/*.md", "internal/connector/*/testdata/conformance/*.json"} {
		more, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range more {
			paths = append(paths, strings.TrimPrefix(path, root+"/"))
		}
	}
	for _, path := range paths {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(directory, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// A technology joins the binary with its suites passed.
func TestEveryTechnologyHasRecordsOfItsConformance(t *testing.T) {
	t.Chdir(root)
	technologies := builtin.Technologies()
	records, err := readRecords()
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"sink", "source"} {
		for _, c := range columns(technologies, records, end) {
			if len(c.record.Cases) == 0 {
				t.Errorf("%s as a %s has no record: run its suite by `make conformance`", c.title, end)
			}
		}
	}
	for i := range records {
		if !slices.ContainsFunc(technologies, func(technology builtin.Technology) bool { return technology.Name == records[i].Technology }) {
			t.Errorf("there is a record of %q, which is not in the binary", records[i].Technology)
		}
	}
}

func TestTheTableSaysWhatIsLacking(t *testing.T) {
	t.Parallel()
	technologies := []builtin.Technology{
		{Name: "pigeon", Title: "Pigeons", Sink: func(config.Values, builtin.Ends) (relay.Sink, error) { return nil, nil }},
		{Name: "owl", Title: "Owls", Sink: func(config.Values, builtin.Ends) (relay.Sink, error) { return nil, nil }},
	}
	page := technologiesPage(technologies, []record{{Technology: "pigeon", End: "sink", Cases: []recordedCase{
		{Guarantee: "Order", Case: "a"},
		{Guarantee: "Once", Case: "b", Lacks: "event id", Reason: "they cannot read"},
		{Guarantee: "Once", Case: "c"},
		{Guarantee: "Open", Case: "d", Lacks: "headers", Reason: "no room"},
	}}})
	for _, want := range []string{"| | Pigeons | Owls |", "| Order | yes | not shown |", "| Once | yes (1) | not shown |", "| Open | – (2) | not shown |",
		"1. Pigeons: event id: they cannot read\n", "2. Pigeons: headers: no room\n", "**Once**\n\n- b\n- c\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

// TestEveryDeclaredKeyIsDocumentedAndKnownToSQL walks the declarations.
func TestEveryDeclaredKeyIsDocumentedAndKnownToSQL(t *testing.T) {
	t.Parallel()
	technologies := builtin.Technologies()
	document, sql := page(technologies), keysSQL(technologies)
	var walk func(technology, direction, prefix string, fields []config.Field)
	walk = func(technology, direction, prefix string, fields []config.Field) {
		for i := range fields {
			f := &fields[i]
			if f.Help == "" || strings.HasSuffix(f.Help, ".") {
				t.Errorf("%s: the help %q must be one sentence without a full stop", prefix+f.Name, f.Help)
			}
			if !strings.Contains(document, "`"+prefix+f.Name+"`") {
				t.Errorf("%s%s is not documented", prefix, f.Name)
			}
			if row := "('" + technology + "', '" + direction + "', '" + prefix + f.Name + "'"; !strings.Contains(prefix, "[]") && !strings.Contains(sql, row) {
				t.Errorf("SQL lacks %s", row)
			}
			for _, alias := range f.Aliases {
				if !strings.Contains(document, "`"+alias+"`") {
					t.Errorf("the alias %s is not documented", alias)
				}
			}
			inner := prefix + f.Name
			if f.Kind == config.Array {
				inner += "[]"
			}
			walk(technology, direction, inner+".", f.Fields)
		}
	}
	walk("common", "forward", "", builtin.CommonFields(true, []string{"nats"}))
	walk("common", "reverse", "", builtin.CommonFields(false, []string{"nats"}))
	for i := range technologies {
		walk(technologies[i].Name, "forward", "", declared(technologies[i].SinkFields))
		walk(technologies[i].Name, "reverse", "", declared(technologies[i].SourceFields))
	}
}

// TestDeclarationsFitTogether finds fields that could not be decoded as declared.
func TestDeclarationsFitTogether(t *testing.T) {
	t.Parallel()
	technologies := builtin.Technologies()
	for i := range technologies {
		for direction, fields := range map[string][]config.Field{
			"sink":   append(builtin.CommonFields(true, []string{technologies[i].Name}), declared(technologies[i].SinkFields)...),
			"source": append(builtin.CommonFields(false, []string{technologies[i].Name}), declared(technologies[i].SourceFields)...),
		} {
			seen := map[string]bool{}
			for _, f := range fields {
				for _, name := range append([]string{f.Name}, f.Aliases...) {
					if seen[name] {
						t.Errorf("%s %s: the key %s is declared twice", technologies[i].Name, direction, name)
					}
					seen[name] = true
				}
				if f.Required && f.Default != nil {
					t.Errorf("%s %s: %s is required and has a default", technologies[i].Name, direction, f.Name)
				}
				if (f.Min != 0 || f.Max != 0) && f.Max < f.Min {
					t.Errorf("%s %s: nothing fits between the bounds of %s", technologies[i].Name, direction, f.Name)
				}
			}
		}
	}
}

// declared returns the fields of an end that may not be there.
func declared(fields func() []config.Field) []config.Field {
	if fields == nil {
		return nil
	}
	return fields()
}
