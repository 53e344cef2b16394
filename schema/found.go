package schema

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

//go:embed queries/look.sql
var lookSQL string

// found is what a database has of the schema tide.
type found struct {
	schemaExists bool
	// objects counts relations, functions and types in schema tide
	objects int
	// version is empty when pg_tide is not there
	version string
	// extension says that the extension pg_tide made it
	extension bool
	// available is the newest version of the extension on the server; empty when there is none
	available string
}

// querier is what a connection and a transaction have in common.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func look(ctx context.Context, db querier) (found, error) {
	var f found
	var hasVersion bool
	err := db.QueryRow(ctx, lookSQL).Scan(&f.schemaExists, &f.objects, &hasVersion, &f.extension, &f.available)
	if err != nil {
		return f, fmt.Errorf("look for schema tide: %w", err)
	}
	if hasVersion {
		if err := db.QueryRow(ctx, `select tide.schema_version()`).Scan(&f.version); err != nil {
			return f, fmt.Errorf("ask for the version of schema tide: %w", err)
		}
	}
	return f, nil
}

// known says whether this package has the released version.
func known(version string) bool {
	return slices.ContainsFunc(versions, func(v struct{ version, tables string }) bool { return v.version == version })
}

// mayInstall refuses to write into a schema that is somebody else's, or newer.
func (f found) mayInstall() error {
	switch {
	case f.version == "" && f.objects > 0:
		return fmt.Errorf("schema tide exists and holds %d objects that are not pg_tide's; rename or drop it, then install again", f.objects)
	case f.version != "" && !known(f.version):
		return f.otherVersion()
	}
	return nil
}

func (f found) otherVersion() error {
	return fmt.Errorf("schema tide has version %s and this pg-tide knows %s and older; use a newer pg-tide", f.version, Current)
}

// updateExtension brings the extension to the version Current. The server
// must have its files.
func updateExtension(ctx context.Context, tx pgx.Tx, f found) error {
	switch {
	case f.version == Current:
		return nil
	case !known(f.version):
		return f.otherVersion()
	}
	if _, err := tx.Exec(ctx, `alter extension pg_tide update to '`+Current+`'`); err != nil {
		return fmt.Errorf("update extension pg_tide from version %s to %s: %w; the server needs the files of version %s: pg-tide extension --dest DIR writes them",
			f.version, Current, err, Current)
	}
	return nil
}

// Version returns the version of the schema tide in the database, and "" when
// it is not there.
func Version(ctx context.Context, conn *pgx.Conn) (string, error) {
	f, err := look(ctx, conn)
	return f.version, err
}

// Verify compares the schema tide in the database with what this package
// expects. The error says what to do.
func Verify(ctx context.Context, conn *pgx.Conn) error {
	f, err := look(ctx, conn)
	if err != nil {
		return err
	}
	remedy := "run: pg-tide install"
	if f.extension {
		remedy = "run: alter extension pg_tide update"
	}
	switch {
	case f.version == "":
		return &VersionError{Expected: Current, Remedy: "run: pg-tide install, or: create extension pg_tide"}
	case f.version == Current:
		return nil
	case known(f.version):
		return &VersionError{Found: f.version, Expected: Current, Remedy: remedy}
	}
	return &VersionError{Found: f.version, Expected: Current, Remedy: "use a newer pg-tide"}
}

// VersionError says that a database has not the schema that is expected.
type VersionError struct {
	// Found is the version that is there, empty for none.
	Found string
	// Expected is the version that this program works with.
	Expected string
	// Remedy says what to do.
	Remedy string
}

// Error says what is there, what is expected and what to do.
func (e *VersionError) Error() string {
	if e.Found == "" {
		return "schema tide is not in this database; " + e.Remedy
	}
	return fmt.Sprintf("schema tide has version %s and this pg-tide needs %s; %s", e.Found, e.Expected, e.Remedy)
}
