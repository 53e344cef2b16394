package cli

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
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

const (
	connectTimeout = 10 * time.Second
	closeTimeout   = 2 * time.Second
)

// withDatabase connects, runs do, and disconnects. What do returns is the
// database's own error where it has one, so that its hint is shown.
func (p *program) withDatabase(ctx context.Context, do func(ctx context.Context, conn *pgx.Conn) error) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = conn.Close(closing) // the answer is here; a connection that breaks now changes nothing
	}()
	return explainServer(do(ctx, conn))
}

// connect opens one session as libpq would: what the URL leaves out comes
// from the PG… variables, the service file and the password file.
func (p *program) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(p.settings.postgresURL)
	if err != nil {
		return nil, explainURL(err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "pg-tide"
	}
	// Prepared statements would not survive a transaction pooler.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.OnNotice = p.notice
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, p.explainConnect(config, err)
	}
	return conn, nil
}

// place names a database as people do, without the password.
func place(config *pgx.ConnConfig) string {
	return fmt.Sprintf("database %q at %s:%d", config.Database, config.Host, config.Port)
}
