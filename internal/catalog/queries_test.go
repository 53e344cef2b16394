package catalog

import (
	"path"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func TestEveryQueryCanBePreparedOnAFreshInstallation(t *testing.T) {
	t.Parallel()
	for _, major := range []int{pgtest.Oldest, pgtest.Newest} {
		dsn, pool := newDatabase(t, major)
		schematest.Inbox(t, pool, "n")
		conn := pgtest.Conn(t, dsn)
		files, err := queries.ReadDir("queries")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := queries.ReadFile(path.Join("queries", file.Name()))
			if err != nil {
				t.Fatal(err)
			}
			sql := strings.Replace(string(text), `"{0}_inbox"`, `"n_inbox"`, 1)
			if strings.Contains(sql, "\nlisten ") {
				_, err = conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
			} else {
				_, err = conn.Prepare(t.Context(), file.Name(), sql)
			}
			if err != nil {
				t.Errorf("PostgreSQL %d: %s: %v", major, file.Name(), err)
			}
		}
	}
}
