package catalog

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// mostPrepared bounds the statements that a connection keeps prepared: the
// parts of an outbox stand in the text of a page's, and change.
const mostPrepared = 64

// session is what is known of a connection.
type session struct {
	// direct says that it stays with one server process, as it does not behind
	// a transaction pooler: what is prepared there may be somebody else's next.
	direct bool
	// prepared are the texts, the latest last.
	prepared []string
}

const sessionKey = "pg_tide"

// isDirect says whether a connection, which that server process serves now,
// stays with it. A pooler makes up the number that it tells its clients.
func isDirect(conn *pgx.Conn, backend uint32) bool { return backend == conn.PgConn().PID() }

// meet finds out what a new connection is.
func meet(ctx context.Context, conn *pgx.Conn) error {
	var backend uint32
	if err := conn.QueryRow(ctx, sessionPIDSQL).Scan(&backend); err != nil {
		return err
	}
	conn.PgConn().CustomData()[sessionKey] = &session{direct: isDirect(conn, backend)}
	return nil
}

// prepare makes the server parse and plan statements once for the connection.
// They are looked up by their text wherever they are used. A page of one event
// costs the server several times as much to parse and plan as to read.
func prepare(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	s, met := conn.PgConn().CustomData()[sessionKey].(*session)
	if !met || !s.direct {
		return nil
	}
	for _, sql := range statements {
		if slices.Contains(s.prepared, sql) {
			continue
		}
		if len(s.prepared) >= mostPrepared {
			if err := conn.Deallocate(ctx, s.prepared[0]); err != nil {
				return err
			}
			s.prepared = s.prepared[1:]
		}
		if _, err := conn.Prepare(ctx, sql, sql); err != nil {
			return err
		}
		s.prepared = append(s.prepared, sql)
	}
	return nil
}

// often runs f with a connection on which the statements are prepared, if that
// is possible. Only for statements that have one good plan, whatever the tables
// hold: it is made when they may be empty still.
func (c *Catalog) often(ctx context.Context, f func(conn *pgx.Conn) error, statements ...string) error {
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err = prepare(ctx, conn.Conn(), statements...); err == nil {
		err = f(conn.Conn())
	}
	switch sqlState(err) {
	case "26000", "0A000":
		// Somebody deallocated it, or what it returns has changed: a connection
		// that is closed leaves the pool, and the next begins anew.
		_ = conn.Conn().Close(ctx)
	}
	return err
}

// execOften is exec for a statement that runs again and again.
func (c *Catalog) execOften(ctx context.Context, doing, sql string, args ...any) (rows int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = c.often(ctx, func(conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, sql, args...)
		rows = tag.RowsAffected()
		return err
	}, sql)
	if err != nil {
		return 0, c.explain(doing, err)
	}
	return rows, nil
}
