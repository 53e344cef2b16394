package e2e

import (
	_ "embed"
	"regexp"
	"strings"
	"testing"
)

// tutorialText is the tutorial that the project was founded on, as it was.
//
//go:embed testdata/tutorial.txt
var tutorialText string

// statement matches one SQL statement of the tutorial: from a line that
// starts with a verb to the first semicolon that ends a line.
var statement = regexp.MustCompile(`(?ms)^(CREATE EXTENSION|SELECT|BEGIN|INSERT|COMMIT)\b.*?;$`)

// tutorialStep returns the SQL statements of step n, as typed. The text shows
// quotes inside an SQL string as a shell shows them within single quotes,
// '"'"'; in SQL itself a quote is doubled.
func tutorialStep(t *testing.T, n string) []string {
	t.Helper()
	_, rest, found := strings.Cut(tutorialText, "Step "+n+":")
	if !found {
		t.Fatalf("the tutorial has no step %s", n)
	}
	step, _, _ := strings.Cut(rest, "\nStep ")
	found2 := statement.FindAllString(step, -1)
	statements := make([]string, 0, len(found2))
	for _, s := range found2 {
		statements = append(statements, strings.ReplaceAll(s, `'"'"'`, `''`))
	}
	return statements
}

func TestTutorialStatementsAreAllFound(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"1": {"CREATE EXTENSION", "SELECT tide.outbox_create", "BEGIN", "INSERT INTO orders", "SELECT tide.outbox_publish", "COMMIT", "SELECT tide.relay_set_outbox"},
		"2": {"CREATE EXTENSION", "SELECT tide.inbox_create", "SELECT tide.relay_set_inbox", "SELECT id, payload", "SELECT tide.inbox_mark_processed"},
		"3": {"CREATE EXTENSION", "SELECT tide.inbox_create", "SELECT tide.relay_set_inbox"},
	}
	for step, prefixes := range want {
		got := tutorialStep(t, step)
		if len(got) != len(prefixes) {
			t.Fatalf("step %s has %d statements, want %d: %q", step, len(got), len(prefixes), got)
		}
		for i, prefix := range prefixes {
			if !strings.HasPrefix(strings.ReplaceAll(got[i], "\n", " "), prefix) {
				t.Errorf("step %s, statement %d is %q, want %q …", step, i+1, got[i], prefix)
			}
		}
	}
}
