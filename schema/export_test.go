package schema

import (
	"context"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
)

var (
	extensionOnly = regexp.MustCompile(`(?s)` + regexp.QuoteMeta(extensionBegin) + `.*?` + regexp.QuoteMeta(extensionEnd))
	psqlCommand   = regexp.MustCompile(`(?m)^\\.*$`)
)

// InstallReleased installs a released version without the extension, from its script.
func InstallReleased(ctx context.Context, conn *pgx.Conn, version string) error {
	content, err := files.ReadFile("extension/" + scriptName("", version))
	if err != nil {
		return fmt.Errorf("read released script: %w", err)
	}
	text := psqlCommand.ReplaceAllString(extensionOnly.ReplaceAllString(string(content), ""), "")
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `create schema tide`); err != nil {
			return err
		}
		return run(ctx, tx, []script{{name: scriptName("", version), text: text}})
	})
}

// Released lists the versions before the current one.
func Released() []string {
	var all []string
	for _, v := range versions[:len(versions)-1] {
		all = append(all, v.version)
	}
	return all
}

// RunScript runs SQL as if it were one of the schema's files.
func RunScript(ctx context.Context, conn *pgx.Conn, name, text string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		return run(ctx, tx, []script{{name: name, text: text}})
	})
}

// Statements splits SQL and returns each statement with its line.
func Statements(source string) (texts []string, lines []int) {
	for _, s := range split(source) {
		texts = append(texts, s.text)
		lines = append(lines, s.line)
	}
	return texts, lines
}
