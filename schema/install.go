package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func install(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `select pg_catalog.pg_advisory_xact_lock($1)`, int64(lockKey)); err != nil {
		return fmt.Errorf("lock for installation: %w", err)
	}
	if _, err := tx.Exec(ctx, `set local search_path = pg_catalog, pg_temp`); err != nil {
		return fmt.Errorf("set search_path: %w", err)
	}
	found, err := look(ctx, tx)
	if err != nil {
		return err
	}
	if found.extension {
		return updateExtension(ctx, tx, found)
	}
	if err := found.mayInstall(); err != nil {
		return err
	}
	if !found.schemaExists {
		if _, err := tx.Exec(ctx, `create schema tide`); err != nil {
			return fmt.Errorf("create schema tide: %w", withHint(err, "42501",
				"the installing role needs the right to create schemas: grant create on database … to …"))
		}
	}
	tables, err := tablesBetween(found.version, Current)
	if err != nil {
		return err
	}
	rest, err := replaceable()
	if err != nil {
		return err
	}
	return run(ctx, tx, append(tables, rest...))
}

// run executes scripts, statement by statement.
func run(ctx context.Context, tx pgx.Tx, scripts []script) error {
	for _, s := range scripts {
		for _, st := range split(s.text) {
			if _, err := tx.Conn().PgConn().Exec(ctx, st.text).ReadAll(); err != nil {
				return statementError(s.name, st, err)
			}
		}
	}
	return nil
}

// ScriptError is a statement of the schema's files that the database refused.
type ScriptError struct {
	File         string
	Line, Column int
	Err          error
}

// Error gives the place and what the database said.
func (e *ScriptError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %v", e.File, e.Line, e.Column, describe(e.Err))
}

// Unwrap returns what the database said.
func (e *ScriptError) Unwrap() error { return e.Err }

// statementError adds the place in the file: the server's position where it
// gives one, else the statement's beginning.
func statementError(file string, st statement, err error) error {
	place := &ScriptError{File: file, Line: st.line, Column: 1, Err: err}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Position > 0 {
		runes := []rune(st.text)
		before := string(runes[:min(int(pgErr.Position)-1, len(runes))])
		place.Line += strings.Count(before, "\n")
		place.Column = len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
	}
	return place
}

// describe is the database's message with its detail and hint, which
// PgError's own text leaves out.
func describe(err error) string {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err.Error()
	}
	text := pgErr.Message + " (SQLSTATE " + pgErr.Code + ")"
	for _, more := range []string{pgErr.Detail, pgErr.Hint} {
		if more != "" {
			text += "; " + more
		}
	}
	return text
}

// withHint adds what to do to an error of the SQLSTATE code.
func withHint(err error, code, hint string) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == code {
		return fmt.Errorf("%w; %s", err, hint)
	}
	return err
}
