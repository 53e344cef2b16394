package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Publisher says where and how writers publish.
type Publisher struct {
	DSN    string
	Outbox string
	// Types are the event types to draw from.
	Types []string
	// Poison is the type of events that the broker refuses for their size;
	// empty for none.
	Poison string
	// Prepares uses two-phase commit, Asynchronous commits that do not wait.
	Prepares, Asynchronous bool
	// Hasty, while it is set, lets all of them commit without waiting, so that
	// nobody else's commit flushes what they wrote.
	Hasty *atomic.Bool
	// Rate is how many events a second one writer aims at.
	Rate    float64
	Commits *Commits
}

// writer is one session that publishes, one transaction after another.
type writer struct {
	Publisher
	number   int
	random   *rand.Rand
	conn     *pgx.Conn
	next     int64            // number of the next transaction
	keyless  int64            // number of the last event without a key
	prepared map[string]doubt // transactions whose second phase is open
}

// doubt is a prepared transaction that is to be ended.
type doubt struct {
	transaction int64
	events      int
	rollback    bool
}

// Write runs writer number n until intake ends, finishing its transaction;
// errors of the database are the point of it, so it returns none.
func (p Publisher) Write(intake, work context.Context, seed uint64, n int) error {
	w := &writer{Publisher: p, number: n, random: rand.New(rand.NewPCG(seed, uint64(n))), prepared: map[string]doubt{}}
	defer func() { w.drop(work) }()
	due := time.Now()
	for intake.Err() == nil {
		t := w.draw(w.random)
		if err := w.once(work, t); err != nil {
			w.drop(work)
			pause(intake, reconnectPause)
		}
		due = due.Add(time.Duration(float64(t.size()) / w.Rate * float64(time.Second)))
		if late := time.Now().Add(-time.Second); due.Before(late) {
			due = late // what was missed is not made up for all at once
		}
		pause(intake, time.Until(due))
	}
	return nil
}

func (w *writer) drop(ctx context.Context) {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // it is of no use any more
	w.conn = nil
}

// once does one transaction and remembers when it was known to be committed.
func (w *writer) once(ctx context.Context, t transaction) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if w.conn == nil {
		conn, err := connect(ctx, w.DSN, PublisherName)
		if err != nil {
			return err
		}
		w.conn = conn
		if err := w.endDoubts(ctx); err != nil {
			return err
		}
	}
	number := int64(w.number)<<32 | w.next
	w.next++
	if err := w.publish(ctx, t, number); err != nil {
		if w.conn.IsClosed() || ctx.Err() != nil {
			return err
		}
		_, err := w.conn.Exec(ctx, "rollback") // a deadlock, or a conflict of isolation
		return err
	}
	return w.end(ctx, t, number)
}

func (w *writer) publish(ctx context.Context, t transaction, number int64) error {
	begin := "begin"
	if t.isolation != "" {
		begin += " isolation level " + t.isolation
	}
	if _, err := w.conn.Exec(ctx, begin); err != nil {
		return err
	}
	if t.async || w.Asynchronous && w.Hasty != nil && w.Hasty.Load() {
		if _, err := w.conn.Exec(ctx, "set local synchronous_commit = off"); err != nil {
			return err
		}
	}
	if t.takeXID {
		if _, err := w.conn.Exec(ctx, query("hold")); err != nil {
			return err
		}
		pause(ctx, t.early)
	}
	if t.bulk > 0 {
		_, err := w.conn.Exec(ctx, query("publish_bulk"), w.Outbox, t.bulk, t.bulkKeys, w.Types[0], number, strings.Repeat("b", 40))
		if err != nil {
			return err
		}
	}
	for _, e := range t.events {
		if err := w.publishOne(ctx, t, e, number); err != nil {
			return err
		}
	}
	pause(ctx, t.hold)
	return nil
}

// publishOne publishes an event, inside a savepoint when it is to be undone.
func (w *writer) publishOne(ctx context.Context, t transaction, e planned, number int64) error {
	if t.how == "savepoints" {
		if _, err := w.conn.Exec(ctx, "savepoint s"); err != nil {
			return err
		}
	}
	var key *string
	line, seq := fmt.Sprintf("%s/~writer%d", w.Outbox, w.number), int64(0)
	if e.key != "" {
		key, line = &e.key, w.Outbox+"/"+e.key
	} else {
		w.keyless++
		seq = w.keyless
	}
	_, err := w.conn.Exec(ctx, query("publish"), w.Outbox, line, key, seq, e.typ, e.op, number, t.how, strings.Repeat("x", e.pad))
	if err != nil || t.how != "savepoints" {
		return err
	}
	after := "release s"
	if e.undone {
		after = "rollback to s"
	}
	_, err = w.conn.Exec(ctx, after)
	return err
}

// end commits, rolls back or prepares.
func (w *writer) end(ctx context.Context, t transaction, number int64) error {
	if t.prepare {
		gid := fmt.Sprintf("torture-%d", number)
		w.prepared[gid] = doubt{transaction: number, events: t.size(), rollback: t.rollback}
		if _, err := w.conn.Exec(ctx, "prepare transaction '"+gid+"'"); err != nil {
			return err
		}
		pause(ctx, t.hold)
		return w.endDoubts(ctx)
	}
	if t.rollback {
		_, err := w.conn.Exec(ctx, "rollback")
		return err
	}
	tag, err := w.conn.Exec(ctx, "commit")
	if err == nil && tag.String() == "COMMIT" {
		w.Commits.add(number, t.size())
	}
	return err
}

// endDoubts ends the prepared transactions that are there; the others were
// never prepared, or their end is known to the server and was lost on the way
// to us.
func (w *writer) endDoubts(ctx context.Context) error {
	if len(w.prepared) == 0 {
		return nil
	}
	there, err := preparedOf(ctx, w.conn)
	if err != nil {
		return err
	}
	for gid, d := range w.prepared {
		if !there[gid] {
			delete(w.prepared, gid)
			continue
		}
		verb := "commit"
		if d.rollback {
			verb = "rollback"
		}
		if _, err := w.conn.Exec(ctx, verb+" prepared '"+gid+"'"); err != nil {
			return err
		}
		if !d.rollback {
			w.Commits.add(d.transaction, d.events)
		}
		delete(w.prepared, gid)
	}
	return nil
}

func preparedOf(ctx context.Context, conn *pgx.Conn) (map[string]bool, error) {
	rows, err := conn.Query(ctx, query("prepared"))
	if err != nil {
		return nil, err
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	there := make(map[string]bool, len(gids))
	for _, gid := range gids {
		there[gid] = true
	}
	return there, err
}

// CommitPrepared commits what writers left prepared when they ended.
func CommitPrepared(ctx context.Context, dsn string) error {
	conn, err := connect(ctx, dsn, PublisherName)
	if err != nil {
		return fmt.Errorf("connect to end prepared transactions: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is done
	there, err := preparedOf(ctx, conn)
	if err != nil {
		return fmt.Errorf("list prepared transactions: %w", err)
	}
	var problems []error
	for gid := range there {
		if _, err := conn.Exec(ctx, "commit prepared '"+gid+"'"); err != nil {
			problems = append(problems, fmt.Errorf("commit prepared %s: %w", gid, err))
		}
	}
	return errors.Join(problems...)
}
