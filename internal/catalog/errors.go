package catalog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Error is an error for people: what is wrong, and what to do about it.
type Error struct {
	// Problem names the object, the value and the rule.
	Problem string
	// Hint is what to do next; may be empty.
	Hint string
	// Err is the cause, for errors.Is and errors.As; its text is not shown.
	Err error
}

// Error returns the problem and the hint in one line.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Problem
	}
	return e.Problem + " (hint: " + e.Hint + ")"
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// target is the database as people name it; never the password.
type target struct {
	host     string
	port     uint16
	database string
	user     string
	// setting is where people say which database it is; empty for the relay's own.
	setting string
}

// key names what says where the database is.
func (t target) key() string {
	if t.setting == "" {
		return "--postgres-url"
	}
	return t.setting
}

// password names where its password comes from.
func (t target) password() string {
	if t.setting == "" {
		return "--postgres-url, PGPASSWORD or the password file"
	}
	return t.setting + " or the key password"
}

// tlsHint is for a server whose certificate or whose TLS is not right.
func (t target) tlsHint() string {
	if t.setting == "" {
		return "check sslmode, sslrootcert and the server's certificate"
	}
	return "check sslmode and the host in " + t.setting + ", the key tls_ca_file, and the server's certificate"
}

// grantHint is for a role that lacks what a relay needs.
func grantHint(where target) string {
	return fmt.Sprintf("as an administrator: grant tide_relay to %s", pgx.Identifier{where.user}.Sanitize())
}

func targetOf(config *pgx.ConnConfig) target {
	where := target{host: config.Host, port: config.Port, database: config.Database, user: config.User}
	if where.database == "" {
		where.database = where.user // as the server does
	}
	return where
}

// String names the database and where it is.
func (t target) String() string {
	return fmt.Sprintf("database %q at %s:%d", t.database, t.host, t.port)
}

func as[T error](err error, to *T) bool { return errors.As(err, to) }

// explain turns what the driver says into a sentence. doing is a short verb phrase.
func (c *Catalog) explain(doing string, err error) error { return explain(c.where, doing, err) }

func explain(where target, doing string, err error) error {
	var ours *Error
	if err == nil || as(err, &ours) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	var pgErr *pgconn.PgError
	if as(err, &pgErr) {
		return explainServer(where, doing, pgErr, err)
	}
	var connect *pgconn.ConnectError
	if as(err, &connect) {
		return explainConnect(where, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Problem: fmt.Sprintf("%s: %s did not answer in time", doing, where), Err: err}
	}
	var network *net.OpError
	if as(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Problem: fmt.Sprintf("%s: the connection to %s was lost", doing, where), Err: err}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// explainConnect is for a server that could not be asked at all.
func explainConnect(where target, err error) error {
	problem := fmt.Sprintf("%s cannot be reached", where)
	hint := "check host, port and firewall, and that the server runs"
	var dns *net.DNSError
	var op *net.OpError
	var unverified *tls.CertificateVerificationError
	switch {
	case as(err, &dns):
		problem = fmt.Sprintf("host %q of %s is not known", where.host, where)
		hint = "check the host's name"
	case errors.Is(err, context.DeadlineExceeded):
		problem += ": no answer in time"
	case as(err, &op):
		problem += ": " + op.Err.Error()
	case strings.Contains(err.Error(), "TLS"), as(err, &unverified):
		problem += ": " + lastCause(err)
		hint = where.tlsHint()
	default:
		problem += ": " + lastCause(err)
	}
	return &Error{Problem: problem, Hint: hint, Err: err}
}

// lastCause is the innermost text: the outer ones repeat the connection's parameters.
func lastCause(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// explainServer is for what the server itself said.
func explainServer(where target, doing string, pgErr *pgconn.PgError, err error) error {
	e := &Error{Err: err}
	switch pgErr.Code {
	case "28P01":
		e.Problem = fmt.Sprintf("the password of role %q was not accepted by %s", where.user, where)
		e.Hint = "check the password in " + where.password()
	case "28000":
		e.Problem = fmt.Sprintf("role %q may not connect to %s: %s", where.user, where, pgErr.Message)
		e.Hint = "check that the role exists and what pg_hba.conf asks for"
	case "3D000":
		e.Problem = fmt.Sprintf("%s does not exist", where)
		e.Hint = "create it, or correct the name in " + where.key()
	case "42501":
		e.Problem = fmt.Sprintf("%s: role %q has no right: %s", doing, where.user, pgErr.Message)
		if e.Hint = pgErr.Hint; e.Hint == "" {
			e.Hint = grantHint(where)
		}
	case "25006":
		e.Problem = fmt.Sprintf("%s: %s is read-only", doing, where)
		e.Hint = "point " + where.key() + " at the primary"
	case "42704": // the schema's own word for an outbox or inbox that is not there
		e.Problem = fmt.Sprintf("%s: %s in %s", doing, pgErr.Message, where)
		e.Hint = pgErr.Hint
	case "3F000", "42P01", "42883", "42703":
		e.Problem = fmt.Sprintf("%s: the schema tide in %s is missing or of another version: %s", doing, where, pgErr.Message)
		e.Hint = "run `pg-tide install`: it installs what is missing and upgrades what is old"
	case "53300":
		e.Problem = fmt.Sprintf("%s has no connection left", where)
		e.Hint = "raise max_connections, or use a smaller pool_max_conns"
	case "57P03", "57P01", "57P02":
		e.Problem = fmt.Sprintf("%s is starting or shutting down", where)
	default:
		e.Problem = fmt.Sprintf("%s: %s (SQLSTATE %s)", doing, pgErr.Message, pgErr.Code)
		e.Hint = pgErr.Hint
	}
	return e
}

// explainParse is for a connection string that cannot be understood. The
// driver's own text may repeat parts of it, so only the cause is shown.
func explainParse(err error) error {
	return &Error{
		Problem: "the connection string cannot be understood: " + lastCause(err),
		Hint:    "write postgres://user:password@host:5432/database, or use PGHOST, PGUSER, PGDATABASE, PGPASSWORD or PGSERVICE",
		Err:     err,
	}
}
