package inbox

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func TestProcessedMessagesAreCleanedAndTheirEventIDsRemembered(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		b := newBox(t, major, 1)
		first := b.events(0, 100)
		b.insert(t, first)
		b.mark(t, `event_id not like '%7'`)
		schematest.Exec(t, b.pool, `select tide.inbox_mark_failed('orders', event_id, 'declined', '1 day') from tide.orders_inbox where event_id like '%07'`)
		schematest.Exec(t, b.pool, `select tide.inbox_mark_failed('orders', event_id, 'declined', '0') from tide.orders_inbox, generate_series(1, 10) where event_id like '%17'`)
		const waiting = `select string_agg((to_jsonb(m) - 'part')::text, e'\n' order by id) from tide.orders_inbox m where processed_at is null`
		var before, after string
		schematest.Query(t, b.pool, waiting, nil, &before)

		if steps := strings.Join(b.clean(t), ", "); steps != "opened a part, moved 10 messages that still wait, remembered 90 event ids, truncated a part" {
			t.Errorf("steps: %s", steps)
		}
		schematest.Query(t, b.pool, waiting, nil, &after)
		if after != before {
			t.Errorf("what still waits is\n%s\nand was\n%s", after, before)
		}
		if n := b.count(t, "true"); n != 10 || b.remembered(t) != 90 {
			t.Errorf("%d messages are there, %d event ids remembered", n, b.remembered(t))
		}
		if added := b.insert(t, b.again(first)); added != 0 {
			t.Errorf("%d came a second time", added)
		}
		if added := b.insert(t, append(b.events(95, 110), b.again(first)...)); added != 10 {
			t.Errorf("%d are new, want 10", added)
		}
		b.mark(t, `true`)
		b.pass(t, retention+time.Second)
		steps := strings.Join(b.maintain(t), ", ")
		b.clean(t)
		if n := b.remembered(t); n > 110 || !strings.Contains(steps, "opened a part of the memory") {
			t.Errorf("%d event ids are remembered after %s", n, steps)
		}
		b.clean(t)
		if n := b.remembered(t); n != 0 {
			t.Errorf("%d event ids are remembered at the end", n)
		}
	})
}

func TestMessagesThatAreRemovedByHandAreRemembered(t *testing.T) {
	t.Parallel()
	for name, removal := range map[string]string{
		"delete":               `delete from tide.orders_inbox`,
		"delete from the part": `delete from tide.inbox_message_1_0`,
		"delete from all":      `delete from tide.inbox_message`,
		"truncate":             `truncate tide.orders_inbox`,
		"truncate the part":    `truncate tide.inbox_message_1_0`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, 0, 1)
			// One is from a clock that is far ahead.
			batch := append(b.events(0, 10), b.event("a stranger's", "elsewhere", 0), b.event("early", ourSource, 30*time.Hour))
			b.insert(t, batch)
			schematest.Exec(t, b.pool, removal)
			if n := b.count(t, "true"); n != 0 {
				t.Fatalf("%d are there", n)
			}
			for _, m := range batch {
				if added := b.insert(t, []message.Message{m}); added != 0 {
					t.Errorf("%s came a second time", m.EventID)
				}
			}
			if added := b.insert(t, b.events(20, 21)); added != 1 {
				t.Error("a new one was taken for known")
			}
		})
	}
}

// The relay looks for the event, finds nothing in the memory, and inserts;
// meanwhile the row that it would have met is deleted.
func TestAMessageDeletedWhileItComesAgainIsNotInsertedAgain(t *testing.T) {
	t.Parallel()
	b := newBox(t, 0, 1)
	batch := b.events(0, 3)
	b.insert(t, batch)
	conn := pgtest.Conn(t, b.dsn)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `delete from tide.orders_inbox`); err != nil {
		t.Fatal(err)
	}
	added := make(chan int)
	go func() {
		n, err := b.relays[0].Insert(t.Context(), append(b.events(3, 4), batch...))
		if err != nil {
			t.Error(err)
		}
		added <- n
	}()
	b.awaitWaiting(t)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := <-added; n != 1 {
		t.Errorf("%d were added, want the new one", n)
	}
	if n := b.count(t, "true"); n != 1 {
		t.Errorf("%d are there, want the new one", n)
	}
}

func TestAMessageIsMarkedAlthoughItMovesMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBox(t, 0, 1)
	b.insert(t, b.events(0, 2))
	b.pass(t, retention)
	b.maintain(t)
	b.pass(t, retention)
	for i, mark := range []string{
		`select tide.inbox_mark_processed('orders', (select min(id) from tide.orders_inbox))::text`,
		`select tide.inbox_mark_failed('orders', (select max(id) from tide.orders_inbox), 'declined')`,
	} {
		mover, err := pgtest.Conn(t, b.dsn).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var step string
		if err := mover.QueryRow(t.Context(), `select tide.inbox_maintain() ->> 'step'`).Scan(&step); err != nil || !strings.HasPrefix(step, "moved") {
			t.Fatalf("%s, %v", step, err)
		}
		answer := make(chan string)
		go func() {
			var said string
			if err := b.pool.QueryRow(t.Context(), mark).Scan(&said); err != nil {
				t.Error(err)
			}
			answer <- said
		}()
		b.awaitWaiting(t)
		if err := mover.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if said := <-answer; said != []string{"true", "pending"}[i] {
			t.Errorf("%s says %s", mark, said)
		}
		// Back again, for the next one.
		schematest.Exec(t, b.pool, `update tide.orders_inbox set part = 0`)
	}
	if n := b.count(t, "processed_at is not null or attempts = 1"); n != 2 {
		t.Errorf("%d of 2 are marked", n)
	}
}

func TestCleaningWaitsForNobodyLongAndSaysSo(t *testing.T) {
	t.Parallel()
	b := newBox(t, 0, 1)
	b.insert(t, b.events(0, 2))
	b.mark(t, `event_id like '%0'`)
	b.pass(t, retention)
	b.maintain(t)
	b.insert(t, b.events(2, 3))
	b.pass(t, retention)

	worker := pgtest.Conn(t, b.dsn)
	tx, err := worker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select from tide.orders_inbox where event_id like '%1' for update`); err != nil {
		t.Fatal(err)
	}
	b.maintain(t)
	var waits bool
	schematest.Query(t, b.pool, `select tide.inbox_maintain() #>> '{waiting,0,inbox}' = 'orders'`, nil, &waits)
	if !waits {
		t.Error("it does not say that it waits")
	}
	schematest.Query(t, b.pool, `select tide.inbox_status('orders') #>> '{parts,0,cleaning_waits_since}' is not null`, nil, &waits)
	if !waits {
		t.Error("the status does not say that it waits")
	}
	if n := b.count(t, `true`); n != 3 {
		t.Errorf("%d are there, want 3", n)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.maintain(t)
	if n := b.count(t, `processed_at is null`); n != 2 || b.count(t, "true") != 2 {
		t.Errorf("%d messages wait, want 2", n)
	}
}

// A million is measured by hand; a redelivery costs no row however many there are.
func TestARedeliveryFloodCostsNoRowAndNoSpace(t *testing.T) {
	t.Parallel()
	b := newBox(t, 0, 1)
	const all, batch = 100_000, 10_000
	for from := 0; from < all; from += batch {
		b.insert(t, b.events(from, from+batch))
		if from == 3*batch {
			b.mark(t, "true")
			b.clean(t) // these are remembered
		}
		if from == 6*batch {
			b.pass(t, retention/2)
			b.maintain(t) // these are in the part before
		}
	}
	sizes := func() (messages, memory, rows int64) {
		schematest.Query(t, b.pool, `select (s ->> 'bytes')::bigint, (s #>> '{memory,bytes}')::bigint, (select count(*) from tide.orders_inbox)
			from tide.inbox_status('orders') s`, nil, &messages, &memory, &rows)
		return messages, memory, rows
	}
	messages, memory, rows := sizes()
	if perID := memory / (4 * batch); rows != 6*batch || perID < 60 || perID > 120 {
		t.Errorf("%d rows, %d bytes for each remembered event id", rows, perID)
	}
	b.pass(t, -b.elapsed) // the flood brings the times with which the events came
	for from := 0; from < all; from += batch {
		if added := b.insert(t, b.events(from, from+batch)); added != 0 {
			t.Fatalf("%d came a second time", added)
		}
	}
	if m, k, r := sizes(); r != rows || m > messages+65536 || k > memory+65536 {
		t.Errorf("after the flood %d rows in %d bytes and %d bytes of memory; before %d in %d and %d", r, m, k, rows, messages, memory)
	}
}

// awaitWaiting waits until a session waits for a row or a transaction.
func (b *box) awaitWaiting(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn := pgtest.Conn(t, b.dsn)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		var waiting bool
		err := conn.QueryRow(ctx, `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`,
			pgx.QueryExecModeSimpleProtocol).Scan(&waiting)
		if err != nil {
			t.Fatalf("nobody waits: %v", err)
		}
		if waiting {
			return
		}
	}
}

// A relay that inserted and has not committed yet: nobody else could see that
// event, if the next part were opened now.
func TestPartsAreNotExchangedWhileARelayInserts(t *testing.T) {
	t.Parallel()
	b := newBox(t, 0, 1)
	b.insert(t, b.events(0, 1))
	b.pass(t, retention)
	tx, err := pgtest.Conn(t, b.dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select tide.inbox_enter(tide.inbox_id('orders'), '{}', null, null)`); err != nil {
		t.Fatal(err)
	}
	if steps := b.maintain(t); len(steps) != 0 {
		t.Errorf("while a relay inserts it %q", steps)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if steps := b.maintain(t); len(steps) != 1 || steps[0] != "opened a part" {
		t.Errorf("afterwards it %q", steps)
	}
}
