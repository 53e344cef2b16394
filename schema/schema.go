// Package schema is the SQL product: the PostgreSQL schema tide as embedded
// files, and what installs, upgrades, verifies and removes it. It refuses to
// know the relay: it holds no query of its at run time.
package schema

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Current is the version of the schema that this package holds.
const Current = "1.1"

//go:embed tables/*.sql functions/*.sql views/*.sql access/*.sql extension/*.sql extension/pg_tide.control
var files embed.FS

// lockKey serialises installations into one database.
const lockKey = 7161988304

// Install brings the schema tide to the version Current in one transaction,
// whether or not an older one is there. Where tide is an extension, the
// extension is updated instead.
func Install(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin installation: %w", err)
	}
	// After a commit this does nothing; the connection tells its own end.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := install(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit installation: %w", err)
	}
	return nil
}

// Upgrade is Install under the name that says what is meant.
func Upgrade(ctx context.Context, conn *pgx.Conn) error {
	return Install(ctx, conn)
}
