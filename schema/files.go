package schema

import (
	"fmt"
	"strings"
)

// File is one of the extension's files, as they lie in the extension folder
// of a PostgreSQL.
type File struct {
	Name    string
	Content []byte
}

// scriptHead begins each script. The search_path leaves out the schema tide,
// in which others may have been able to create operators.
const scriptHead = `-- Written by: go run ./schema/generate
\echo Use "%s" to load this file. \quit
` + extensionBegin + `set local search_path = pg_catalog, pg_temp;
` + extensionEnd

// Marks around what only the extension's scripts have.
const (
	extensionBegin = "-- extension only: begin\n"
	extensionEnd   = "-- extension only: end\n"
)

// Files returns the files of the extension: those of the current version made
// from the SQL files, and the scripts of older ones as they were released.
func Files() ([]File, error) {
	made := []func() (File, error){controlFile, freshScript, updateScript}
	var all []File
	for i := range versions {
		if i == len(versions)-1 {
			break
		}
		names := []string{scriptName("", versions[i].version)}
		if i > 0 {
			names = append(names, scriptName(versions[i-1].version, versions[i].version))
		}
		for _, name := range names {
			content, err := files.ReadFile("extension/" + name)
			if err != nil {
				return nil, fmt.Errorf("read released script: %w", err)
			}
			all = append(all, File{Name: name, Content: content})
		}
	}
	for _, build := range made {
		f, err := build()
		if err != nil {
			return nil, err
		}
		if f.Name != "" {
			all = append(all, f)
		}
	}
	return all, nil
}

func scriptName(from, to string) string {
	if from == "" {
		return "pg_tide--" + to + ".sql"
	}
	return "pg_tide--" + from + "--" + to + ".sql"
}

func controlFile() (File, error) {
	content, err := files.ReadFile("extension/pg_tide.control")
	if err != nil {
		return File{}, fmt.Errorf("read control file: %w", err)
	}
	lines := strings.Split(string(content), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "default_version") {
			lines[i] = "default_version = '" + Current + "'"
		}
	}
	return File{Name: "pg_tide.control", Content: []byte(strings.Join(lines, "\n"))}, nil
}

// freshScript is the script that installs the current version.
func freshScript() (File, error) {
	begin, err := files.ReadFile("extension/begin.sql")
	if err != nil {
		return File{}, fmt.Errorf("read begin.sql: %w", err)
	}
	head := fmt.Sprintf(scriptHead, "create extension pg_tide") +
		extensionBegin + string(begin) + extensionEnd
	return assemble(scriptName("", Current), head, "")
}

// updateScript is the script that leads from the version before to the
// current one; no file when there is none before.
func updateScript() (File, error) {
	if len(versions) < 2 {
		return File{}, nil
	}
	before := versions[len(versions)-2].version
	return assemble(scriptName(before, Current), fmt.Sprintf(scriptHead, "alter extension pg_tide update"), before)
}

func assemble(name, head, from string) (File, error) {
	tables, err := tablesBetween(from, Current)
	if err != nil {
		return File{}, err
	}
	rest, err := replaceable()
	if err != nil {
		return File{}, err
	}
	end, err := files.ReadFile("extension/end.sql")
	if err != nil {
		return File{}, fmt.Errorf("read end.sql: %w", err)
	}
	var b strings.Builder
	b.WriteString(head)
	for _, s := range append(tables, rest...) {
		b.WriteString("\n-- " + s.name + "\n\n" + s.text)
	}
	b.WriteString("\n" + extensionBegin + string(end) + extensionEnd)
	return File{Name: name, Content: []byte(b.String())}, nil
}
