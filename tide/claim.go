package tide

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// claimAll claims whenever there is room and may be something, until ctx ends
// or something is wrong that waiting does not mend.
func (s *shift) claimAll(ctx context.Context) error {
	poll := time.NewTicker(s.config.PollInterval)
	defer poll.Stop()
	pause := firstPause
	more := true // the last claim may have left some, or something has changed since
	for ctx.Err() == nil {
		if room := s.room(); more && room > 0 {
			got, err := s.claim(ctx, room)
			switch {
			case err != nil && ctx.Err() != nil:
				return nil
			case err != nil && hopeless(err):
				return err
			case err != nil:
				s.log.Warn("cannot claim messages; trying again", "error", err, "pause", pause)
				wait(ctx, pause)
				pause = min(2*pause, lastPause)
				continue
			}
			pause = firstPause
			// less than room does not say that none is left: others may have what it saw
			more = got > 0
			s.full.Store(more)
			continue
		}
		select {
		case <-s.wake:
			more = true
		case <-poll.C:
			more = true
		case <-ctx.Done():
		}
	}
	return nil
}

// room is how many may be claimed now. With slow handlers that is one for each
// that is free; with fast ones 0 until half of what may be claimed is done,
// since few large claims cost less than many small ones.
func (s *shift) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := s.pace.most(s.config.Concurrency, s.config.Prefetch)
	if len(s.held) >= s.config.Concurrency && len(s.held) > most/2 {
		return 0
	}
	return most - len(s.held)
}

// claim claims messages and queues them. It does not end with ctx at once: a
// claim that is committed and whose answer nobody reads would keep its messages
// from everybody until the lease ends.
func (s *shift) claim(ctx context.Context, most int) (int, error) {
	limit, cancel := context.WithTimeout(s.settling, s.config.Lease)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(s.config.StopTimeout/4, cancel) })()
	rows, err := s.pool.Query(limit, claimSQL, pgx.QueryExecModeExec, s.config.Inbox, s.config.Name, most, interval(s.config.Lease))
	if err != nil {
		return 0, explained(fmt.Sprintf("claim messages of inbox %q", s.config.Inbox), err)
	}
	got, err := pgx.CollectRows(rows, s.read)
	if err != nil {
		return 0, explained(fmt.Sprintf("claim messages of inbox %q", s.config.Inbox), err)
	}
	if len(got) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	for _, d := range got {
		s.held[d.ID] = d
	}
	s.mu.Unlock()
	s.config.Metrics.Claimed(s.config.Inbox, len(got))
	for _, d := range got {
		s.queue <- d // there is room: it holds as many as may be claimed
	}
	return len(got), nil
}

func (s *shift) read(row pgx.CollectableRow) (*delivery, error) {
	d := &delivery{Message: &Message{Inbox: s.config.Inbox}, shift: s}
	var payload, headers []byte
	err := row.Scan(&d.ID, &d.EventID, &d.Source, &d.Stream, &d.Key, &d.Op, &d.Type, &payload, &headers, &d.ReceivedAt, &d.Attempts, &d.token)
	d.Payload, d.Headers = payload, headers
	return d, err
}

// hopeless tells whether an error is one that waiting does not mend: an inbox
// or a schema that does not exist, a right that is missing, a value that is wrong.
func hopeless(err error) bool {
	e := new(pgconn.PgError)
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "42704", "42501", "42883", "3F000", "22023", "22004", "25001":
		return true
	}
	return false
}

// interval is a duration as PostgreSQL reads it.
func interval(d time.Duration) string { return fmt.Sprintf("%d microseconds", d.Microseconds()) }

// wait waits, or until ctx ends.
func wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
