package catalog

import (
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// A wrong statement that the database refuses would prove nothing of a checker.
func TestWrongStatementsAreStillStatements(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, pgtest.Newest)
	schematest.Inbox(t, pool, "n")
	conn := pgtest.Conn(t, dsn)
	for name, sql := range map[string]string{
		"position_save":      unfenced(positionSaveSQL),
		"mark_save":          unfenced(markSaveSQL),
		"page_read":          unfenced(pageReadSQL),
		"drain_read":         unfenced(drainReadSQL),
		"dead_letter_add":    unfenced(deadLetterAddSQL),
		"dead_letter_remove": unfenced(deadLetterRemoveSQL),
		"dead_letter_return": unfenced(deadLetterReturnSQL),
		"inbox_insert":       unfenced(inboxInsertSQL),
		"page_settings":      unflushed(),
	} {
		sql = strings.Replace(sql, `"{0}_inbox"`, `"n_inbox"`, 1)
		if _, err := conn.Prepare(t.Context(), name, sql); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
