package cli

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/catalog"
)

// The exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitProblems = 3
)

// usageError is the user's mistake in how the command was called.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes an error that ends in exit code 2.
func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// problemsError says that a check ran and found something.
type problemsError struct{ text string }

func (e *problemsError) Error() string { return e.text }

// hintedError is an error with a remedy, shown on a line of its own.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// withHint adds a remedy to err.
func withHint(err error, hint string) error { return &hintedError{err: err, hint: hint} }

// writtenError is an error whose own text is what people should read, although
// an error of the database is within.
type writtenError struct{ err error }

func (e *writtenError) Error() string { return e.err.Error() }
func (e *writtenError) Unwrap() error { return e.err }

// asWritten keeps the text of err.
func asWritten(err error) error {
	if err == nil {
		return nil
	}
	return &writtenError{err: err}
}

// hintOf returns the remedy that err knows, or "".
func hintOf(err error) string {
	var hinted *hintedError
	if errors.As(err, &hinted) {
		return hinted.hint
	}
	var database *catalog.Error
	if errors.As(err, &database) {
		return database.Hint
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Hint
	}
	return ""
}

// sentenceOf returns err as people should read it: of an error that the
// database raised, its message without severity and code.
func sentenceOf(err error) string {
	var written *writtenError
	if errors.As(err, &written) {
		return written.Error()
	}
	var database *catalog.Error
	if errors.As(err, &database) {
		return database.Problem
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		if server.Detail != "" {
			return server.Message + ": " + server.Detail
		}
		return server.Message
	}
	return err.Error()
}

// exitCode says what the process ends with.
func exitCode(err error) int {
	var usage *usageError
	var problems *problemsError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &problems):
		return exitProblems
	}
	return exitFailed
}
