// Command docgen writes what follows from the declared configuration fields:
// the reference page, the tables of keys in the pages of the technologies, and
// the SQL function that lets PostgreSQL refuse an unknown key; and, from what
// the conformance suites recorded, the table of technologies against
// guarantees. With --check it writes nothing and fails when a file differs.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/config"
)

// file is one generated file.
type file struct {
	path string
	text string
}

func main() {
	check := flag.Bool("check", false, "write nothing; fail when a file differs")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	files, err := generate(builtin.Technologies())
	if err != nil {
		return err
	}
	for _, f := range files {
		current, err := os.ReadFile(f.path)
		if err == nil && bytes.Equal(current, []byte(f.text)) {
			continue
		}
		if check {
			return fmt.Errorf("%s differs from what it is generated from: run `make generate`", f.path)
		}
		if err := os.WriteFile(f.path, []byte(f.text), 0o644); err != nil { //nolint:gosec // documentation is for everybody
			return err
		}
	}
	return nil
}

func generate(technologies []builtin.Technology) ([]file, error) {
	records, err := readRecords()
	if err != nil {
		return nil, err
	}
	files := []file{
		{"docs/technologies.md", technologiesPage(technologies, records)},
		{"docs/configuration.md", page(technologies)},
		{"schema/functions/config_keys.sql", keysSQL(technologies)},
	}
	push, err := fillIn("docs/inbox-push.md", table(builtin.PushField().Fields, ""))
	if err != nil {
		return nil, err
	}
	files = append(files, file{"docs/inbox-push.md", push})
	for i := range technologies {
		t := &technologies[i]
		for path, fields := range map[string]func() []config.Field{
			"docs/sinks/" + t.Name + ".md":   t.SinkFields,
			"docs/sources/" + t.Name + ".md": t.SourceFields,
		} {
			if fields == nil {
				continue
			}
			text, err := fillIn(path, table(fields(), ""))
			if err != nil {
				return nil, err
			}
			files = append(files, file{path, text})
		}
	}
	return files, nil
}

const (
	tableStart = "<!-- generated:keys -->"
	tableEnd   = "<!-- /generated:keys -->"
)

// fillIn puts the table between the markers of a page that people write.
func fillIn(path, table string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	before, rest, found := strings.Cut(string(text), tableStart)
	if !found {
		return "", fmt.Errorf("%s has no line %s", path, tableStart)
	}
	if _, after, closed := strings.Cut(rest, tableEnd); closed {
		rest = after
	}
	return before + tableStart + "\n" + table + tableEnd + rest, nil
}
