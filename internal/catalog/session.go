package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Connect opens one session, for a command that asks something and ends. It
// reads connString as Open does, but asks nothing of the schema. Its errors
// are sentences, without the password.
func Connect(ctx context.Context, connString string, notice func(*pgconn.Notice)) (*pgx.Conn, error) {
	pool, err := poolConfig(Options{ConnString: connString})
	if err != nil {
		return nil, err
	}
	config := pool.ConnConfig
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notice(n) }
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, explain(targetOf(config), "connect", err)
	}
	return conn, nil
}

// Where names the database of a session as people do, without the password.
func Where(conn *pgx.Conn) string { return targetOf(conn.Config()).String() }

// Misunderstood says that err is about a connection string, service file or
// certificate that cannot be read: waiting does not mend it.
func Misunderstood(err error) bool {
	var parse *pgconn.ParseConfigError
	return as(err, &parse)
}
