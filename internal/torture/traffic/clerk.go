package traffic

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// clerkPause is how often dead letters are looked at.
const clerkPause = 500 * time.Millisecond

// Clerk does what an operator does about a pipeline's dead letters, until
// intake ends: poison is given up, and what waits behind it is tried again.
func Clerk(intake, work context.Context, dsn, pipeline string) error {
	var conn *pgx.Conn
	drop := func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(work)) // its work is done, or it is broken
			conn = nil
		}
	}
	defer drop()
	for intake.Err() == nil {
		if err := clearLetters(work, &conn, dsn, pipeline); err != nil {
			drop()
		}
		pause(intake, clerkPause)
	}
	return nil
}

func clearLetters(ctx context.Context, conn **pgx.Conn, dsn, pipeline string) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if *conn == nil {
		var err error
		if *conn, err = connect(ctx, dsn, strangerName); err != nil {
			return err
		}
	}
	_, err := (*conn).Exec(ctx, query("clear_letters"), pipeline)
	return err
}
