package schema

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed queries/uninstall.sql
var uninstallSQL string

//go:embed queries/removal.sql
var removalSQL string

// Removal is what Uninstall would take away.
type Removal struct {
	// Version is empty when there is nothing to remove.
	Version string
	// Extension says that the extension pg_tide goes.
	Extension bool
	// What is in it. Events and messages are counted to a million and one.
	Outboxes, Inboxes, Pipelines  int64
	Events, Messages, DeadLetters int64
	// Captures counts the tables whose triggers go.
	Captures int64
}

// HasData says whether anything of the user's would go.
func (r Removal) HasData() bool {
	return r.Outboxes+r.Inboxes+r.Pipelines+r.Events+r.Messages+r.DeadLetters+r.Captures > 0
}

// String says in words what goes.
func (r Removal) String() string {
	parts := []string{
		counted(r.Outboxes, "outbox", "outboxes") + " with " + counted(r.Events, "event", "events"),
		counted(r.Inboxes, "inbox", "inboxes") + " with " + counted(r.Messages, "message", "messages"),
		counted(r.Pipelines, "pipeline", "pipelines"),
		counted(r.DeadLetters, "dead letter", "dead letters"),
	}
	if r.Captures > 0 {
		parts = append(parts, "captures of "+counted(r.Captures, "table", "tables"))
	}
	return strings.Join(parts, ", ")
}

func counted(n int64, one, many string) string {
	switch {
	case n == 1:
		return "1 " + one
	case n > 1_000_000 && (one == "event" || one == "message"):
		return "more than a million " + many
	}
	return fmt.Sprintf("%d %s", n, many)
}

// PlanUninstall says what Uninstall would take away; it changes nothing.
func PlanUninstall(ctx context.Context, conn *pgx.Conn) (Removal, error) {
	return planUninstall(ctx, conn)
}

func planUninstall(ctx context.Context, db querier) (Removal, error) {
	f, err := look(ctx, db)
	if err != nil || f.version == "" {
		return Removal{}, err
	}
	r := Removal{Version: f.version, Extension: f.extension}
	err = db.QueryRow(ctx, removalSQL).Scan(&r.Outboxes, &r.Inboxes, &r.Pipelines, &r.Events, &r.Messages, &r.DeadLetters, &r.Captures)
	if err != nil {
		return r, fmt.Errorf("count what is in schema tide: %w", err)
	}
	return r, nil
}

// Options of Uninstall.
type Options struct {
	// DropData allows outboxes, inboxes, pipelines and their rows to go.
	DropData bool
}

// DataError refuses to remove a user's data without having been told to.
type DataError struct{ Removal Removal }

// Error says what would go and how to have it so.
func (e *DataError) Error() string {
	return "uninstalling would drop " + e.Removal.String() + "; confirm with --yes"
}

// Uninstall removes what is ours, in one transaction: the schema's tables,
// views and functions, or the extension; then the schema, if that leaves it
// empty. What others built upon it makes it fail. Roles stay, for they belong
// to the cluster. It returns what went.
func Uninstall(ctx context.Context, conn *pgx.Conn, options Options) (Removal, error) {
	var removal Removal
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_catalog.pg_advisory_xact_lock($1)`, int64(lockKey)); err != nil {
			return fmt.Errorf("lock for removal: %w", err)
		}
		var err error
		if removal, err = planUninstall(ctx, tx); err != nil || removal.Version == "" {
			return err
		}
		if removal.HasData() && !options.DropData {
			return &DataError{Removal: removal}
		}
		return remove(ctx, tx)
	})
	return removal, err
}

func remove(ctx context.Context, tx pgx.Tx) error {
	functions, relations, err := names()
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `select pg_catalog.set_config('pg_tide.functions', $1, true), pg_catalog.set_config('pg_tide.relations', $2, true)`,
		"{"+strings.Join(functions, ",")+"}", "{"+strings.Join(relations, ",")+"}")
	if err != nil {
		return fmt.Errorf("name what to remove: %w", err)
	}
	if _, err := tx.Exec(ctx, uninstallSQL); err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "2BP01" {
			return fmt.Errorf("remove schema tide: something of yours depends on it: %s; drop that first: %w", pgErr.Detail, err)
		}
		return fmt.Errorf("remove schema tide: %w", err)
	}
	return nil
}

var (
	functionName = regexp.MustCompile(`(?i)create or replace function tide\.(\w+)`)
	relationName = regexp.MustCompile(`(?i)create (?:or replace )?(?:table|view|sequence) tide\.(\w+)`)
)

// names lists the functions and the relations that the current version and
// the released ones make.
func names() (functions, relations []string, err error) {
	all, err := Files()
	if err != nil {
		return nil, nil, err
	}
	collect := func(into []string, pattern *regexp.Regexp, text []byte) []string {
		for _, m := range pattern.FindAllSubmatch(text, -1) {
			into = append(into, string(m[1]))
		}
		slices.Sort(into)
		return slices.Compact(into)
	}
	for _, f := range all {
		functions = collect(functions, functionName, f.Content)
		relations = collect(relations, relationName, f.Content)
	}
	return functions, relations, nil
}
