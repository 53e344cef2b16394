package cli

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/catalog"
)

// notice passes on what the database says beside the answer.
func (p *program) notice(notice *pgconn.Notice) {
	fmt.Fprintf(p.Err, "pg-tide: %s\n", notice.Message)
	if notice.Hint != "" {
		fmt.Fprintf(p.Err, "hint: %s\n", notice.Hint)
	}
}

// The SQLSTATEs of statements whose objects are not there.
const (
	undefinedFunction = "42883"
	undefinedTable    = "42P01"
	undefinedColumn   = "42703"
	invalidSchema     = "3F000"
	noRight           = "42501"
)

// raised is where PostgreSQL raises the errors of PL/pgSQL functions.
const raised = "exec_stmt_raise"

// explainMissing turns "relation tide.x does not exist" into what to do: the
// schema is not there, or is of another version. Other errors are kept.
func explainMissing(conn *pgx.Conn, err error) error {
	var server *pgconn.PgError
	var written *writtenError
	if !errors.As(err, &server) || errors.As(err, &written) {
		return err
	}
	if server.Routine == raised {
		// One of the schema's functions said so, in words of its own.
		return err
	}
	switch server.Code {
	case undefinedFunction, undefinedTable, undefinedColumn, invalidSchema:
		return withHint(fmt.Errorf("the schema tide is not in %s, or is of another version", catalog.Where(conn)),
			"`pg-tide install` installs and upgrades it")
	case noRight:
		if server.Hint == "" {
			return withHint(fmt.Errorf("role %q of %s has no right: %s", conn.Config().User, catalog.Where(conn), server.Message),
				"as an administrator, grant it one of the roles tide_reader, tide_operator, tide_publisher or tide_admin")
		}
	}
	return err
}
