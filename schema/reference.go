package schema

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed reference.md
var referenceHead string

// section is a part of the reference: a title and the files whose functions it shows.
type section struct {
	title, about string
	files        []string
}

// sections is the order of the reference.
func sections() []section {
	return []section{
		{"Outbox", "Where events leave from.", []string{"functions/outbox.sql", "functions/outbox_publish.sql", "functions/outbox_publish_many.sql", "functions/outbox_access.sql"}},
		{"Capture", "Tables whose changes are events. See [capturing tables](capture.md).",
			[]string{"functions/outbox_capture.sql", "functions/outbox_capture_backfill.sql"}},
		{"Inbox", "Where events arrive. The messages of an inbox are in the relation `tide.\"<name>_inbox\"`, which its users may query and join.",
			[]string{"functions/inbox.sql", "functions/inbox_pending.sql", "functions/inbox_mark.sql", "functions/inbox_claim.sql", "functions/inbox_lease.sql"}},
		{"Relay", "Pipelines and their dead letters.", []string{"functions/relay.sql", "functions/relay_rewind.sql", "functions/dead_letter.sql"}},
		{"Retention", "What is kept, and when it goes. See [retention](retention.md) and [what an inbox keeps](inbox-retention.md).",
			[]string{"functions/outbox_retention.sql", "functions/maintain.sql", "functions/inbox_maintain.sql"}},
		{"Status", "What waits where. Every count costs the same however much waits.", []string{"functions/status.sql"}},
	}
}

var (
	functionHead    = regexp.MustCompile(`(?s)create or replace function (tide\.(\w+)\((.*?)\))(?:\s+returns (\S.*?))?\s+language`)
	functionComment = regexp.MustCompile(`(?s)comment on function tide\.(\w+)\((.*?)\) is\s+'((?:[^']|'')*)';`)
	viewComment     = regexp.MustCompile(`(?s)comment on view tide\.(\w+) is\s+'((?:[^']|'')*)';`)
	columnComment   = regexp.MustCompile(`(?s)comment on column tide\.\w+\.(\w+) is\s+'((?:[^']|'')*)';`)
	blanks          = regexp.MustCompile(`\s+`)
)

// Reference returns docs/sql.md: every function for users with its comment
// and its example, and the views.
func Reference() ([]byte, error) {
	var b strings.Builder
	b.WriteString("<!-- Written by: go run ./schema/generate -->\n" + referenceHead)
	for _, s := range sections() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", s.title, s.about)
		for _, name := range s.files {
			text, err := files.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			writeFunctions(&b, string(text))
		}
	}
	views, err := folder("views")
	if err != nil {
		return nil, err
	}
	b.WriteString("\n## Views\n")
	for _, v := range views {
		for _, found := range viewComment.FindAllStringSubmatch(v.text, -1) {
			fmt.Fprintf(&b, "\n### tide.%s\n\n%s\n\nColumns: %s.\n", found[1], unquote(found[2]), columns(v.text))
			for i, about := range columnComment.FindAllStringSubmatch(v.text, -1) {
				if i == 0 {
					b.WriteString("\n")
				}
				fmt.Fprintf(&b, "- `%s`: %s\n", about[1], unquote(about[2]))
			}
		}
	}
	return []byte(b.String()), nil
}

// writeFunctions shows those whose comment has an example: the others are internal.
func writeFunctions(b *strings.Builder, text string) {
	heads := functionHead.FindAllStringSubmatch(text, -1)
	comments := functionComment.FindAllStringSubmatch(text, -1)
	for _, c := range comments {
		about, example, public := strings.Cut(unquote(c[3]), "\nExample: ")
		if !public {
			continue
		}
		for _, h := range heads {
			if h[2] == c[1] && strings.Join(types(h[3]), ", ") == blanks.ReplaceAllString(c[2], " ") {
				arguments := strings.TrimSpace(blanks.ReplaceAllString(h[3], " "))
				fmt.Fprintf(b, "\n### tide.%s\n\n```sql\ntide.%s(%s) returns %s\n```\n\n%s\n\n```sql\n%s\n```\n",
					h[2], h[2], arguments, strings.TrimSpace(blanks.ReplaceAllString(h[4], " ")), about, example)
			}
		}
	}
}

// types are those of a parameter list, as a comment names a function.
func types(parameters string) []string {
	var found []string
	for _, p := range strings.Split(parameters, ",") {
		declared, _, _ := strings.Cut(strings.TrimSpace(blanks.ReplaceAllString(p, " ")), " default ")
		if _, typ, ok := strings.Cut(declared, " "); ok {
			found = append(found, strings.TrimSpace(typ))
		}
	}
	return found
}

var columnLine = regexp.MustCompile(`(?m)^    (?:.* as (\w+)|\w+\.(\w+)|end as (\w+)),?$`)

// columns lists a view's columns from its select list, which has each one's
// end on a line of its own.
func columns(text string) string {
	_, list, _ := strings.Cut(text, "\nselect\n")
	list, _, _ = strings.Cut(list, "\nfrom ")
	var names []string
	for _, m := range columnLine.FindAllStringSubmatch(list, -1) {
		names = append(names, "`"+m[1]+m[2]+m[3]+"`")
	}
	return strings.Join(names, ", ")
}

func unquote(literal string) string { return strings.ReplaceAll(literal, "''", "'") }
