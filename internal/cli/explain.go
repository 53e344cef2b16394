package cli

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// notice passes on what the database says beside the answer.
func (p *program) notice(_ *pgconn.PgConn, notice *pgconn.Notice) {
	fmt.Fprintf(p.Err, "pg-tide: %s\n", notice.Message)
}

func explainURL(err error) error {
	return withHint(errors.New("the connection string cannot be understood"), "write postgres://user:password@host:5432/database")
}

func (p *program) explainConnect(config *pgx.ConnConfig, err error) error {
	return fmt.Errorf("%s cannot be reached: %w", place(config), err)
}

func explainServer(err error) error { return err }
