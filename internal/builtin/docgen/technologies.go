package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pg-tide/pg-tide/internal/builtin"
)

const technologiesHead = `# Technologies and what they guarantee

<!-- Generated from internal/connector/*/testdata/conformance by ` + "`make generate`" + `; do not edit. -->

Every sink passes one suite of cases, and every source another, against a real server that is stopped, killed, cut off, frozen and given wrong configurations. A cell is *yes* when the technology passes all cases of the row; a number beside it leads to what the technology has no such thing for, and a dash says that none of the row applies. What each row is made of stands below. The records are written by the suites themselves, and every run of the tests compares them with what was passed.

What the relay adds, such as positions, lanes, dead letters and hand-over, holds for all of them; see [message guarantees](message-guarantees.md).
`

// record is what one end of a technology passed, as its suite wrote it.
type record struct {
	Technology string         `json:"technology"`
	End        string         `json:"end"`
	Variant    string         `json:"variant"`
	Cases      []recordedCase `json:"cases"`
}

type recordedCase struct {
	Guarantee string `json:"guarantee"`
	Case      string `json:"case"`
	Lacks     string `json:"lacks"`
	Reason    string `json:"reason"`
}

// readRecords reads the records of all technologies.
func readRecords() ([]record, error) {
	paths, err := filepath.Glob("internal/connector/*/testdata/conformance/*.json")
	if err != nil {
		return nil, err
	}
	records := make([]record, len(paths))
	for i, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &records[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return records, nil
}

// column is one end of a technology, with its record or without one.
type column struct {
	title  string
	record record
}

func (r *record) is(technology, end string) bool { return r.Technology == technology && r.End == end }

// columns are the ends of that kind, in the order of the list of technologies.
func columns(technologies []builtin.Technology, records []record, end string) []column {
	var all []column
	for i := range technologies {
		t := &technologies[i]
		if end == "sink" && t.Sink == nil || end == "source" && t.Source == nil {
			continue
		}
		var own []record
		for j := range records {
			if records[j].is(t.Name, end) {
				own = append(own, records[j])
			}
		}
		slices.SortFunc(own, func(a, b record) int { return cmp.Compare(a.Variant, b.Variant) })
		if len(own) == 0 {
			all = append(all, column{title: t.Title})
		}
		for _, r := range own {
			title := t.Title
			if r.Variant != "" {
				title += ", " + r.Variant
			}
			all = append(all, column{title, r})
		}
	}
	return all
}

// technologiesPage is the table of technologies against guarantees.
func technologiesPage(technologies []builtin.Technology, records []record) string {
	var b strings.Builder
	b.WriteString(technologiesHead)
	for _, end := range []string{"sink", "source"} {
		all := columns(technologies, records, end)
		fmt.Fprintf(&b, "\n## As a %s\n\n", end)
		writeTable(&b, all)
		fmt.Fprintf(&b, "\n### What a %s passes\n", end)
		writeCases(&b, all)
	}
	return b.String()
}

// guarantees are the rows, in the order in which the suites have them.
func guarantees(all []column) []string {
	var rows []string
	for i := range all {
		for _, c := range all[i].record.Cases {
			if !slices.Contains(rows, c.Guarantee) {
				rows = append(rows, c.Guarantee)
			}
		}
	}
	return rows
}

func writeTable(b *strings.Builder, all []column) {
	b.WriteString("| |")
	for i := range all {
		b.WriteString(" " + all[i].title + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
	var notes []string
	for _, guarantee := range guarantees(all) {
		b.WriteString("| " + guarantee + " |")
		for i := range all {
			b.WriteString(" " + all[i].cell(guarantee, &notes) + " |")
		}
		b.WriteString("\n")
	}
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	for i, note := range notes {
		fmt.Fprintf(b, "%d. %s\n", i+1, note)
	}
}

// cell says how a technology fares in a row, and adds what it lacks to the notes.
func (c *column) cell(guarantee string, notes *[]string) string {
	var passed int
	var numbers []string
	for _, one := range c.record.Cases {
		if one.Guarantee != guarantee {
			continue
		}
		if one.Lacks == "" {
			passed++
			continue
		}
		note := fmt.Sprintf("%s: %s: %s", c.title, one.Lacks, one.Reason)
		at := slices.Index(*notes, note)
		if at < 0 {
			at = len(*notes)
			*notes = append(*notes, note)
		}
		if number := fmt.Sprint(at + 1); !slices.Contains(numbers, number) {
			numbers = append(numbers, number)
		}
	}
	word := "yes"
	switch {
	case len(c.record.Cases) == 0:
		return "not shown"
	case passed == 0:
		word = "–"
	}
	if len(numbers) == 0 {
		return word
	}
	return word + " (" + strings.Join(numbers, ", ") + ")"
}

// writeCases lists what the rows are made of.
func writeCases(b *strings.Builder, all []column) {
	for _, guarantee := range guarantees(all) {
		var names []string
		for i := range all {
			for _, c := range all[i].record.Cases {
				if c.Guarantee == guarantee && !slices.Contains(names, c.Case) {
					names = append(names, c.Case)
				}
			}
		}
		fmt.Fprintf(b, "\n**%s**\n\n", guarantee)
		for _, name := range names {
			fmt.Fprintf(b, "- %s\n", name)
		}
	}
}
