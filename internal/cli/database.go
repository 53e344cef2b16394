package cli

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/catalog"
)

// queries holds the statements of the commands, one a file.
//
//go:embed queries/*.sql
var queries embed.FS

// query returns a statement by its file's name.
func query(name string) string {
	text, err := queries.ReadFile("queries/" + name + ".sql")
	if err != nil {
		// Found by the first test of the command: the files are part of the binary.
		return "select 'missing statement: " + name + "'"
	}
	return string(text)
}

const closeTimeout = 2 * time.Second

// withDatabase connects, runs do, and disconnects. What the URL leaves out
// comes from the PG… variables, the service file and the password file.
func (p *program) withDatabase(ctx context.Context, do func(ctx context.Context, conn *pgx.Conn) error) error {
	conn, err := catalog.Connect(ctx, p.settings.postgresURL, p.notice)
	if err != nil {
		return p.unnamed(err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = conn.Close(closing) // the answer is here; a connection that breaks now changes nothing
	}()
	return explainMissing(conn, do(ctx, conn))
}

// unnamed adds to a failure to connect that no database was named at all: the
// address in the error is then libpq's default, and nobody wrote it.
func (p *program) unnamed(err error) error {
	if p.settings.postgresURL != "" {
		return err
	}
	for _, name := range []string{"PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT"} {
		if value, _ := p.lookup(name); value != "" {
			return err
		}
	}
	return withHint(fmt.Errorf("no database was named, and %s", sentenceOf(err)),
		"give --postgres-url, or set PG_TIDE_POSTGRES_URL or libpq's PGHOST, PGDATABASE, PGSERVICE")
}
