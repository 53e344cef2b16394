package traffic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Consumer says which inbox workers process.
type Consumer struct {
	DSN   string
	Inbox string
	// Workers is their number; each has the lines of its class.
	Workers int
	// Hasty, while it is set, lets them commit without waiting.
	Hasty *atomic.Bool
	// Crashes lets a worker drop its connection in the midst, now and then.
	Crashes bool
}

const (
	mostTaken = 100
	idlePause = 20 * time.Millisecond
	// One batch in crashOdds ends by a crash, one message in failOdds is
	// refused at first.
	crashOdds = 40
	failOdds  = 400
)

// taken is a message that a worker holds.
type taken struct {
	id      int64
	eventID string
	key     *string
	line    string
	seq     int64
}

// worker is one session that processes an inbox.
type worker struct {
	Consumer
	number int
	random *rand.Rand
	conn   *pgx.Conn
}

// Work runs worker number n until intake ends, finishing its batch.
func (c Consumer) Work(intake, work context.Context, seed uint64, n int) error {
	w := &worker{Consumer: c, number: n, random: rand.New(rand.NewPCG(seed, uint64(1000+n)))}
	defer func() { w.drop(work) }()
	for intake.Err() == nil {
		done, err := w.batch(work)
		switch {
		case err != nil:
			w.drop(work)
			pause(intake, reconnectPause)
		case done == 0:
			pause(intake, idlePause)
		}
	}
	return nil
}

func (w *worker) drop(ctx context.Context) {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // it is of no use any more
	w.conn = nil
}

// batch processes what waits, in one transaction: take, write, mark, commit.
func (w *worker) batch(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if w.conn == nil {
		conn, err := connect(ctx, w.DSN, WorkerName)
		if err != nil {
			return 0, err
		}
		w.conn = conn
	}
	var count int
	err := pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		messages, err := w.take(ctx, tx)
		if err != nil || len(messages) == 0 {
			return err
		}
		count = len(messages)
		if w.Hasty.Load() {
			if _, err := tx.Exec(ctx, "set local synchronous_commit = off"); err != nil {
				return err
			}
		}
		if err := w.effect(ctx, tx, messages); err != nil {
			return err
		}
		if w.Crashes && w.random.IntN(crashOdds) == 0 {
			// As if the process were gone: no goodbye, and no rollback sent.
			_ = w.conn.PgConn().Conn().Close()
		}
		return nil
	})
	return count, err
}

func (w *worker) take(ctx context.Context, tx pgx.Tx) ([]taken, error) {
	relation := pgx.Identifier{"tide", w.Inbox + "_inbox"}.Sanitize()
	rows, err := tx.Query(ctx, fmt.Sprintf(query("take"), relation), w.Inbox, w.number, w.Workers, mostTaken)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t taken, err error) {
		err = row.Scan(&t.id, &t.eventID, &t.key, &t.line, &t.seq)
		return t, err
	})
}

// effect writes what processing means and marks the messages. A message that
// is refused holds back the later ones of its key, as the inbox does.
func (w *worker) effect(ctx context.Context, tx pgx.Tx, messages []taken) error {
	held := map[string]bool{}
	var ids, seqs []int64
	var eventIDs, lines []string
	batch := &pgx.Batch{}
	for _, m := range messages {
		if held[m.line] {
			continue
		}
		if m.key != nil && w.random.IntN(failOdds) == 0 {
			held[m.line] = true
			batch.Queue(query("mark_failed"), w.Inbox, m.id)
			continue
		}
		ids, seqs = append(ids, m.id), append(seqs, m.seq)
		eventIDs, lines = append(eventIDs, m.eventID), append(lines, m.line)
	}
	batch.Queue(query("effect"), eventIDs, lines, seqs, w.number)
	batch.Queue(query("mark_processed"), w.Inbox, ids)
	return tx.SendBatch(ctx, batch).Close()
}
