package tide

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// listen has the claimer look as soon as messages are notified. It is a hint
// and no more: without it the inbox is looked into at intervals.
func (s *shift) listen(ctx context.Context) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		started := time.Now()
		possible, err := s.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if !possible {
			s.log.Info("a pooler stands before the database; the inbox is looked into at intervals", "interval", s.config.PollInterval)
			return
		}
		s.log.Warn("not notified of new messages for now", "error", err)
		if time.Since(started) > time.Minute {
			pause = firstPause
		}
		wait(ctx, pause)
	}
}

// listenOnce listens on a connection of its own until it breaks; possible is
// false when the connection does not stay with one server process.
func (s *shift) listenOnce(ctx context.Context) (possible bool, err error) {
	config := s.Worker.pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return true, err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return true, err
	}
	defer func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(limit) // it is of no use any more
	}()
	// A pooler makes up the number of the process that it tells its clients.
	var pid uint32
	if err := conn.QueryRow(ctx, sessionPIDSQL, pgx.QueryExecModeExec).Scan(&pid); err != nil {
		return true, err
	}
	if pid != conn.PgConn().PID() {
		return false, nil
	}
	channel := "tide_inbox_" + s.config.Inbox
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return true, fmt.Errorf("listen on %q: %w", channel, err)
	}
	s.log.Debug("listening", "channel", channel)
	for {
		s.nudge() // for what came before, too
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return true, err
		}
	}
}
