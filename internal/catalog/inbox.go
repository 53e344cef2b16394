package catalog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

// InboxTarget is the inbox that a pipeline inserts into.
type InboxTarget struct {
	Owner   Owner
	InboxID int64
	Inbox   string
	// Repeats is kept from one batch to the next; nil expects repeats each time.
	Repeats *Repeats
	// peer says that it is in another database than the pipeline's.
	peer bool
	// mark is saved in the transaction of the insert; nil when there is none.
	mark *numberedMark
}

// numberedMark is what a database shall remember of a source, as its save seq.
type numberedMark struct {
	message.Mark
	seq int64
}

// Repeats says whether the messages of a batch may be known to the inbox. To
// look is a quarter of what an insert costs, so it is done at the start, when
// what was not acknowledged comes again, and for a while after each repeat.
// Else a repeat makes the insert fail, and it is done again with a look: that
// leaves a batch of dead rows, which must not happen with every other batch.
type Repeats struct{ looks atomic.Int64 }

const (
	looksAtStart     = 8
	looksAfterRepeat = 64
)

// Expect says that what was inserted before may come again.
func (r *Repeats) Expect() { r.looks.Store(max(looksAtStart, r.looks.Load())) }

func (r *Repeats) expected() bool { return r == nil || r.looks.Load() > 0 }

// note takes in a batch that was looked at.
func (r *Repeats) note(had bool) {
	switch {
	case r == nil:
	case had:
		r.looks.Store(looksAfterRepeat)
	default:
		r.looks.Add(-1)
	}
}

// removalAttempts is how often a batch is inserted when messages are being
// removed from the inbox at the same time. Each removal disturbs a batch once.
const removalAttempts = 5

// InsertInbox inserts messages in order, in one transaction, and returns how
// many were new. It fails with *delivery.Partial, nothing inserted, when some
// can never be inserted, and with the verdict superseded when another relay
// owns the pipeline.
func (c *Catalog) InsertInbox(ctx context.Context, to InboxTarget, messages []message.Message) (int, error) {
	const doing = "insert into the inbox"
	if len(messages) == 0 {
		return 0, nil
	}
	if failed := withoutEventID(to.Inbox, messages); len(failed) > 0 {
		return 0, &delivery.Partial{Failed: failed}
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	fault.At(fault.ReverseBeforeInsert)
	added, err := c.insertAlone(ctx, to, messages)
	for attempt := 1; attempt < removalAttempts && sqlState(err) == "40001"; attempt++ {
		added, err = c.insertAlone(ctx, to, messages)
	}
	switch {
	case err == nil:
		fault.At(fault.ReverseAfterInsert)
		return added, nil
	case !isDataError(err) || isAboutMark(err):
		return 0, c.explain(doing, err)
	}
	failed, err := c.findUninsertable(ctx, to, messages)
	if err != nil {
		return 0, c.explain(doing, err)
	}
	if len(failed) == 0 {
		return 0, fmt.Errorf("%s: the batch was refused and each of its messages was not", doing)
	}
	return 0, &delivery.Partial{Failed: failed}
}

// InsertInboxMarked is InsertInbox that saves mark under the number seq in the
// transaction of the insert: both are durable or neither is, and they wait for
// the disk once. It fails as SaveMark does, too.
func (c *Catalog) InsertInboxMarked(ctx context.Context, to InboxTarget, messages []message.Message, seq int64, mark message.Mark) (int, error) {
	to.mark = &numberedMark{Mark: mark, seq: seq}
	added, err := c.InsertInbox(ctx, to, messages)
	if err == nil {
		err = c.pruneMarks(ctx, to.Owner, seq)
	}
	return added, err
}

// insertAlone inserts in a transaction of its own, and once more if a repeat
// was not expected.
func (c *Catalog) insertAlone(ctx context.Context, to InboxTarget, messages []message.Message) (added int, err error) {
	if !to.Repeats.expected() {
		if added, err = c.insertIsolated(ctx, to, messages, false); sqlState(err) != uniqueViolation || isAboutMark(err) {
			return added, err
		}
	}
	if added, err = c.insertIsolated(ctx, to, messages, true); err == nil {
		to.Repeats.note(added < len(messages))
	}
	return added, err
}

const uniqueViolation = "23505"

// insertIsolated inserts under READ COMMITTED. Where the database's
// default is stricter, the transaction is begun and ended
// expressly, at the price of two round trips.
func (c *Catalog) insertIsolated(ctx context.Context, to InboxTarget, messages []message.Message, repeats bool) (added int, err error) {
	sql := inboxQuery(to, repeats)
	if !c.strictIsolation.Load() {
		err = c.often(ctx, func(conn *pgx.Conn) (err error) {
			added, err = c.insertInbox(ctx, conn, sql, to, messages)
			return err
		}, sql)
		if sqlState(err) != "25001" {
			return added, err
		}
		c.strictIsolation.Store(true)
	}
	err = pgx.BeginTxFunc(ctx, c.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		added, err = c.insertInbox(ctx, tx, sql, to, messages)
		return err
	})
	return added, err
}

// withoutEventID finds messages that could not be recognised if they came again.
func withoutEventID(inbox string, messages []message.Message) map[int]error {
	var failed map[int]error
	for i := range messages {
		if messages[i].EventID != "" {
			continue
		}
		if failed == nil {
			failed = map[int]error{}
		}
		failed[i] = delivery.Reject(&Error{Problem: fmt.Sprintf("inbox %q cannot take the message: it has no event id", inbox)})
	}
	return failed
}

// rower is a connection or a transaction.
type rower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (c *Catalog) insertInbox(ctx context.Context, on rower, sql string, to InboxTarget, messages []message.Message) (added int, err error) {
	if fault.Mutant(fault.NoDedup) {
		messages = unknown(messages)
	}
	values := columnsOf(messages)
	oldest, newest := publishedBetween(messages)
	var owners int
	var nothing any
	args := []any{
		to.Owner.PipelineID, c.relay.ID, to.Owner.Fence, to.InboxID, "tide_inbox_" + to.Inbox,
		values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7],
		oldest, newest,
	}
	if m := to.mark; m != nil {
		args = append(args, m.seq, m.Origin, strconv.FormatUint(m.Sequence, 10), strconv.FormatUint(m.Delivery, 10), placesOf(m.Mark))
	}
	err = on.QueryRow(ctx, sql, args...).Scan(&owners, &added, &nothing, &nothing)
	if err == nil && owners == 0 {
		return 0, superseded("insert into the inbox")
	}
	return added, err
}

// The columns of a batch that often have one value for all of it. The others
// have a value of their own for each message, or may be empty.
const columns = 8

var mayBeOne = [columns]bool{1: true, 2: true, 4: true, 5: true, 7: true}

// columnsOf turns messages into one array for each column. One whose values
// are all the same has a single element.
func columnsOf(messages []message.Message) (all [columns][]string) {
	for i := range all {
		all[i] = make([]string, len(messages))
	}
	same := mayBeOne
	for i := range messages {
		m := &messages[i]
		headers := "{}"
		if len(m.Headers) > 0 {
			headers = string(m.Headers)
		}
		for j, value := range [...]string{m.EventID, m.Source, m.Stream, m.Key, m.Op, m.EventType, string(m.Payload), headers} {
			all[j][i] = value
			same[j] = same[j] && value == all[j][0]
		}
	}
	for j := range all {
		if same[j] {
			all[j] = all[j][:1]
		}
	}
	return all
}

// publishedBetween returns the times of the oldest and the newest event, as far
// as they can be relied upon; oldest is nil when that of any cannot. The inbox
// trusts them in that an event comes again with the time it came with first,
// which holds for what an outbox of pg_tide published and not for a stranger's.
func publishedBetween(messages []message.Message) (oldest, newest *time.Time) {
	ours, all := "", true
	for i := range messages {
		m := &messages[i]
		if m.Time.IsZero() || m.Source != ours && message.OutboxOf(m.Source) == "" {
			all = false
			continue
		}
		ours = m.Source
		if oldest == nil || m.Time.Before(*oldest) {
			oldest = &m.Time
		}
		if newest == nil || m.Time.After(*newest) {
			newest = &m.Time
		}
	}
	if !all {
		oldest = nil
	}
	return oldest, newest
}

// inboxQuery puts the inbox's name where the statement has {0}, and takes out
// the look for repeats where none is expected and the mark where there is none:
// a condition in its place would be planned with each batch.
func inboxQuery(to InboxTarget, repeats bool) string {
	sql := fenced(inboxInsertSQL)
	if to.peer {
		sql = peerInboxInsertSQL
	}
	sql = strings.Replace(sql, `"{0}_inbox"`, pgx.Identifier{to.Inbox + "_inbox"}.Sanitize(), 1)
	if to.mark == nil {
		sql = withoutMark(sql)
	}
	if !repeats {
		sql = strings.Replace(sql, "    on conflict do nothing\n", "", 1)
	}
	return sql
}

func withoutMark(sql string) string {
	before, mark, found := strings.Cut(sql, ",\nmarked as (")
	if !found {
		return sql // another database's inbox has none
	}
	_, after, _ := strings.Cut(mark, "\n)")
	return before + after
}

// findUninsertable finds the messages that the inbox refuses.
func (c *Catalog) findUninsertable(ctx context.Context, to InboxTarget, messages []message.Message) (map[int]error, error) {
	to.mark = nil
	sql := inboxQuery(to, true)
	return c.findRefused(ctx, len(messages), func(tx pgx.Tx, from, until int) error {
		_, err := c.insertInbox(ctx, tx, sql, to, messages[from:until])
		return err
	}, func(err error) error { return uninsertable(to.Inbox, err) })
}

// isDataError says that a value is the reason: the same statement would fail
// each time. Classes 22 and 23 are about data, 54 about its size.
func isDataError(err error) bool {
	state := sqlState(err)
	return len(state) == 5 && (state[:2] == "22" || state[:2] == "23" || state[:2] == "54")
}

// isAboutMark says that the mark of a batch is the reason, and no message: somebody
// else saved one under its number.
func isAboutMark(err error) bool {
	var pgErr *pgconn.PgError
	return as(err, &pgErr) && pgErr.SchemaName == "tide" && pgErr.TableName == "pipeline_mark"
}

// uninsertable says in words why a message can never be in an inbox.
func uninsertable(inbox string, err error) error {
	return &Error{Problem: fmt.Sprintf("inbox %q cannot take the message: %s", inbox, reasonOf(err)), Err: err}
}

func reasonOf(err error) (reason string) {
	reason = "a value is refused"
	switch sqlState(err) {
	case "22P02":
		reason = "the payload is not JSON"
	case "22P05":
		reason = `the payload holds \u0000, which jsonb cannot`
	case "22021":
		reason = "text is not valid UTF-8, or holds a zero byte"
	case "22003":
		reason = "a number in the payload is out of range"
	case "54001":
		reason = "the payload is nested too deeply"
	case "54000":
		reason = "the event id or a part of the payload is too long"
	case "22023", "22004":
		var pgErr *pgconn.PgError
		if as(err, &pgErr) {
			reason = pgErr.Message
		}
	}
	return reason
}
