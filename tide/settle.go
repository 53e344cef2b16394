package tide

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// completeFinished completes messages whose handlers returned nil, as many at
// a time as have come while the last ones were completed.
func (s *shift) completeFinished() {
	for d := range s.finished {
		batch := []*delivery{d}
		for more := true; more && len(batch) < s.config.Prefetch; {
			select {
			case next, open := <-s.finished:
				if more = open; open {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		s.completeBatch(batch)
	}
}

func (s *shift) completeBatch(batch []*delivery) {
	s.mu.Lock()
	for _, d := range batch {
		d.settling = true
	}
	s.mu.Unlock()
	err := s.insist(func(ctx context.Context) error { return s.many(ctx, completeManySQL, batch) })
	switch {
	case err == nil:
		s.settled(Processed, batch...)
	case isLost(err) && len(batch) > 1:
		// One of them was lost, and with it all were refused; look for it by halves.
		s.completeBatch(batch[:len(batch)/2])
		s.completeBatch(batch[len(batch)/2:])
	case isLost(err):
		s.lose(batch[0], err)
	default:
		s.log.Error("cannot complete messages; they are worked again when their leases end", "messages", len(batch), "error", err)
		s.settled(Lost, batch...)
	}
}

// releaseUnbegun gives back what no handler has begun.
func (s *shift) releaseUnbegun(batch []*delivery) {
	if len(batch) == 0 {
		return
	}
	s.mu.Lock()
	for _, d := range batch {
		d.settling = true
	}
	s.mu.Unlock()
	err := s.insist(func(ctx context.Context) error { return s.many(ctx, releaseManySQL, batch, interval(0)) })
	if isLost(err) && len(batch) > 1 {
		s.releaseUnbegun(batch[:len(batch)/2])
		s.releaseUnbegun(batch[len(batch)/2:])
		return
	}
	if err != nil {
		s.log.Warn("cannot release messages that were not begun; others get them when their leases end", "messages", len(batch), "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range batch {
		delete(s.held, d.ID)
	}
}

// release gives a message back, to be had again after a pause.
func (s *shift) release(d *delivery, pause time.Duration) {
	err := s.insist(func(ctx context.Context) error { return s.many(ctx, releaseManySQL, []*delivery{d}, interval(pause)) })
	if err != nil {
		s.lose(d, err)
		return
	}
	s.settled(Released, d)
}

// mostError bounds what is kept of an error, in bytes.
const mostError = 8 << 10

// fail notes that a message failed; pause nil leaves the pause to the inbox.
func (s *shift) fail(d *delivery, cause error, pause *time.Duration, giveUp bool) {
	text := strings.ReplaceAll(strings.ToValidUTF8(cause.Error(), "?"), "\x00", "")
	if len(text) > mostError {
		text = strings.ToValidUTF8(text[:mostError], "")
	}
	var retryIn *string
	if pause != nil {
		in := interval(*pause)
		retryIn = &in
	}
	var dead int
	err := s.insist(func(ctx context.Context) error {
		row := s.pool.QueryRow(ctx, failSQL, pgx.QueryExecModeExec, d.Inbox, d.token, idArray(d), text, retryIn, giveUp)
		return row.Scan(&dead)
	})
	if err != nil {
		s.lose(d, errors.Join(err, cause))
		return
	}
	attributes := []any{"event_id", d.EventID, "event_type", d.Type, "attempts", d.Attempts, "error", cause}
	if e := new(PanicError); errors.As(cause, &e) {
		attributes = append(attributes, "stack", string(e.Stack))
	}
	if dead > 0 {
		s.log.Error("a message became a dead letter", attributes...)
		s.settled(Dead, d)
		return
	}
	s.log.Warn("a message failed and will be tried again", attributes...)
	s.settled(Failed, d)
}

// insist repeats a statement while the database does not answer, as long as
// the lease is good for it.
func (s *shift) insist(statement func(ctx context.Context) error) error {
	limit, cancel := context.WithTimeout(s.settling, s.config.Lease)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := statement(limit)
		if err == nil || isLost(err) || hopeless(err) || limit.Err() != nil {
			return err
		}
		s.log.Warn("cannot say what became of messages; trying again", "error", err, "pause", pause)
		wait(limit, pause)
	}
}

// many runs a statement on messages of several claims.
func (s *shift) many(ctx context.Context, statement string, batch []*delivery, more ...any) error {
	tokens, ids := byToken(batch)
	var n int
	arguments := append([]any{pgx.QueryExecModeExec, s.config.Inbox, tokens, ids}, more...)
	if err := s.pool.QueryRow(ctx, statement, arguments...).Scan(&n); err != nil {
		return explained(fmt.Sprintf("settle messages of inbox %q", s.config.Inbox), err)
	}
	return nil
}

// byToken gathers the ids of each token, as arrays in text form. In the order
// of ids: a heartbeat and a completion that go for the same rows at once would
// otherwise wait for each other.
func byToken(batch []*delivery) (tokens, ids []string) {
	slices.SortFunc(batch, func(a, b *delivery) int { return int(a.ID - b.ID) })
	places := map[string]int{}
	var lists []*strings.Builder
	for _, d := range batch {
		place, known := places[d.token]
		if !known {
			place = len(tokens)
			places[d.token] = place
			tokens = append(tokens, d.token)
			lists = append(lists, &strings.Builder{})
		}
		list := lists[place]
		if list.Len() > 0 {
			list.WriteByte(',')
		}
		list.WriteString(strconv.FormatInt(d.ID, 10))
	}
	for _, list := range lists {
		ids = append(ids, "{"+list.String()+"}")
	}
	return tokens, ids
}

func idArray(d *delivery) string { return "{" + strconv.FormatInt(d.ID, 10) + "}" }
