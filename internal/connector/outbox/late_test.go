package outbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// session is a publisher whose transaction a test ends when it likes.
type session struct {
	t  *testing.T
	tx pgx.Tx
}

func begin(t *testing.T, b bus) session {
	t.Helper()
	tx, err := pgtest.Conn(t, b.dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return session{t, tx}
}

func (s session) xid() (xid uint64) {
	s.t.Helper()
	if err := s.tx.QueryRow(s.t.Context(), "select pg_current_xact_id()").Scan(&xid); err != nil {
		s.t.Fatal(err)
	}
	return xid
}

func (s session) publish() (id string) {
	s.t.Helper()
	if err := s.tx.QueryRow(s.t.Context(), "select tide.outbox_publish('orders', 'orders', '{}')::text").Scan(&id); err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s session) publishMany(n int) {
	s.t.Helper()
	if _, err := s.tx.Exec(s.t.Context(), "select tide.outbox_publish('orders', 'orders', '{}') from generate_series(1, $1)", n); err != nil {
		s.t.Fatal(err)
	}
}

func (s session) commit() {
	s.t.Helper()
	if err := s.tx.Commit(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func publish(t *testing.T, b bus) string {
	t.Helper()
	return schematest.Publish(t, b.pool, "orders", "", "{}")
}

func expect(t *testing.T, r *Reader, limit int, want ...string) {
	t.Helper()
	if got := eventIDs(read(t, r, limit).Messages); !slices.Equal(got, want) {
		t.Fatalf("read %v, want %v", got, want)
	}
}

func TestFindsAnEventWhoseTransactionWasInProgress(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	r := b.open(t)
	slow := begin(t, b)
	late := slow.publish()
	early := publish(t, b)
	expect(t, r, 10, early)
	slow.commit()
	next := publish(t, b)
	expect(t, r, 10, late, next)
}

// lateBeyondXmax makes the kind of late event that is not in the snapshot's
// list: its transaction is younger than the last completed one, and its id is
// lower. It reads the early event, and returns what comes later.
func lateBeyondXmax(t *testing.T, b bus, r *Reader) (late, next string) {
	t.Helper()
	old, young := begin(t, b), begin(t, b)
	old.xid()
	youngXID := young.xid()
	late = young.publish()
	early := old.publish()
	old.commit()
	expect(t, r, 10, early)
	seen, err := parseSnapshot(r.position.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if youngXID < seen.xmax || slices.Contains(seen.inProgress, youngXID) {
		t.Fatalf("xid %d is not beyond snapshot %s", youngXID, r.position.Snapshot)
	}
	young.commit()
	return late, publish(t, b)
}

func TestFindsAnEventWhoseTransactionIsBeyondTheSnapshot(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	r := b.open(t)
	late, next := lateBeyondXmax(t, b, r)
	expect(t, r, 10, late, next)
}

// Looking only at the transactions in the snapshot's list must be found out.
func TestLookingOnlyAtTheListIsFoundToLoseAnEvent(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	r := b.open(t)
	r.readPage = func(ctx context.Context, request catalog.PageRequest) (catalog.Page, error) {
		request.Bound = request.XMax
		return b.catalog.ReadPage(ctx, request)
	}
	_, next := lateBeyondXmax(t, b, r)
	expect(t, r, 10, next)
}

func TestMoreLateEventsThanAPageSurviveARestartBetweenPages(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	r := b.open(t)
	bulk, other := begin(t, b), begin(t, b)
	bulk.publishMany(12)
	lateOfOther := other.publish()
	bulk.publishMany(13)
	first := publish(t, b)
	expect(t, r, 10, first)
	bulk.commit()
	after := publish(t, b)

	var got []string
	for len(got) < 20 {
		page := read(t, r, 10)
		if len(page.Messages) != 10 || page.Position.DrainSnapshot == "" {
			t.Fatalf("a page of %d in round %q", len(page.Messages), page.Position.DrainSnapshot)
		}
		got = append(got, eventIDs(page.Messages)...)
		if err := r.Save(t.Context(), page.Position); err != nil {
			t.Fatal(err)
		}
		if len(got) == 10 {
			other.commit() // during the round, and not of it
		}
		if err := r.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for len(got) < 27 {
		got = append(got, eventIDs(read(t, r, 10).Messages)...)
	}
	rows, err := b.pool.Query(t.Context(), "select event_id::text from tide.outbox_event order by id")
	if err != nil {
		t.Fatal(err)
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want = slices.DeleteFunc(want, func(id string) bool { return id == lateOfOther || id == first })
	want = slices.Insert(want, 25, lateOfOther) // after the round, before what is new
	if !slices.Equal(got, want) {
		t.Errorf("read %v\nwant %v", got, want)
	}
	if got[26] != after {
		t.Errorf("last came %s, want %s", got[26], after)
	}
}

func TestAPageIsBoundedByBytesAndNeverEmpty(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	// Text that does not compress: five megabytes of digests.
	const big = `select tide.outbox_publish('orders', 'orders',
		to_jsonb((select string_agg(md5(random()::text), '') from generate_series(1, 5 * 32768))))`
	for range 3 {
		schematest.Exec(t, b.pool, big)
	}
	r := b.open(t)
	for _, want := range []int{2, 1} {
		if n := len(read(t, r, 100).Messages); n != want {
			t.Errorf("a page of %d, want %d", n, want)
		}
	}
}

func TestAnotherPartitionIsReadFromItsFirstEventOn(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	r := b.open(t)
	expect(t, r, 10, publish(t, b))
	old := begin(t, b)
	inOld := old.publish()
	var part int
	schematest.Query(t, b.pool, "select tide.outbox_take_part()", nil, &part)
	schematest.Exec(t, b.pool, "update tide.outbox_part set outbox_id = $1 where part = $2", b.spec.EndpointID, part)
	schematest.Exec(t, b.pool, "update tide.outbox set part = $1 where id = $2", part, b.spec.EndpointID)
	inNew := publish(t, b)
	expect(t, r, 10, inNew)
	old.commit()
	expect(t, r, 10, inOld)
}

func TestAPositionOfAnotherHistoryIsReadOnceAndReplaced(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	var ids []string
	for range 4 {
		ids = append(ids, publish(t, b))
	}
	r := b.open(t)
	if err := r.Save(t.Context(), read(t, r, 3).Position); err != nil {
		t.Fatal(err)
	}
	// What a dump of a database with far greater xids would have brought: the
	// second event was still to come at the position, the fourth was not read.
	schematest.Exec(t, b.pool, `
		update tide.outbox_event set xid = (9000000 + id)::text::xid8;
		update tide.outbox_event set xid = '9000100' where event_id = '`+ids[1]+`';
		update tide.pipeline_position set snapshot = '9000003:9000101:9000100', bound = '9000102';
		update tide.node set system_identifier = 1`)
	err := r.Open(t.Context())
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), "pipeline adopt") {
		t.Fatalf("in a copy that nobody spoke for: %v", err)
	}
	schematest.Exec(t, b.pool, "select tide.relay_adopt(name) from tide.pipeline")
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, r, 10, ids[1], ids[3])
	if r.position.Incarnation != 2 || r.position.FloorID == 0 {
		t.Errorf("the position is still of the other history: %+v", r.position)
	}
	slow := begin(t, b)
	late := slow.publish()
	expect(t, r, 10, publish(t, b))
	slow.commit()
	next := publish(t, b)
	expect(t, r, 10, late, next)
}

// A plan that walks or sorts the backlog would make each page slower than the
// one before; and tables that were never analysed are the usual case.
func TestPagesAreReadByTheIndexesWithALargeBacklog(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	schematest.Exec(t, b.pool, `alter table tide.outbox_event_1 set (autovacuum_enabled = false);
		insert into tide.outbox_event (part, stream, op, payload, headers)
		select 1, 'orders', 'insert', jsonb_build_object('n', g), '{}' from generate_series(1, 500000) g`)
	for _, analysed := range []bool{false, true} {
		if analysed {
			schematest.Exec(t, b.pool, "analyze tide.outbox_event_1")
		}
		for _, c := range positionsInABacklog {
			args := append([]any{pgx.QueryExecModeSimpleProtocol, b.spec.ID, relayID, b.spec.Fence, b.spec.EndpointID}, c.args...)
			plan := explain(t, b, append(args, 500, 1<<20)...)
			if strings.Contains(plan, "Seq Scan on outbox_event") || strings.Contains(plan, "Bitmap Heap Scan on outbox_event") || strings.Contains(plan, "rows=500000") {
				t.Errorf("%s, analysed %t:\n%s", c.name, analysed, plan)
			}
			for _, index := range []string{"outbox_event_1_id_idx", "outbox_event_1_xid_id_idx"} {
				if !strings.Contains(plan, index) {
					t.Errorf("%s, analysed %t, without %s:\n%s", c.name, analysed, index, plan)
				}
			}
		}
	}
}

// positionsInABacklog are from the xids in progress to the bound, in a backlog
// of 500,000.
var positionsInABacklog = []struct {
	name string
	args []any
}{
	{"fresh", []any{"{}", 0, 0, "3", "3"}},
	{"fresh in the middle", []any{"{}", 0, 250000, "3", "3"}},
	{"late by the list", []any{"{5,6,7}", 0, 499990, "8", "8"}},
	{"late by the range", []any{"{}", 0, 499990, "8", "20"}},
}

// The statement stays prepared, and its plan is made when the outbox may be
// empty. It must do for a large backlog as well.
func TestThePlanOfAnEmptyOutboxDoesForALargeBacklog(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		t.Parallel()
		b := newBus(t, major)
		schematest.Exec(t, b.pool, "alter table tide.outbox_event_1 set (autovacuum_enabled = false)")
		conn := pgtest.Conn(t, b.dsn)
		settings, page := catalog.PageSQL("{1}")
		run := func(sql string) string {
			t.Helper()
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			if _, err := tx.Exec(t.Context(), settings); err != nil {
				t.Fatal(err)
			}
			rows, err := tx.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[*string])
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, line := range lines {
				if line != nil {
					text += *line + "\n"
				}
			}
			return text
		}
		execute := func(args []any) string {
			return fmt.Sprintf("execute page(%d, '%s', %d, %d, '%s', %d, %d, '%s', '%s', 500, 1000000)",
				append([]any{b.spec.ID, relayID, b.spec.Fence, b.spec.EndpointID}, args...)...)
		}
		if _, err := conn.Exec(t.Context(), "prepare page as "+page); err != nil {
			t.Fatal(err)
		}
		run("explain (costs off) " + execute(positionsInABacklog[0].args)) // makes the plan
		schematest.Exec(t, b.pool, `insert into tide.outbox_event (part, stream, op, payload, headers)
			select 1, 'orders', 'insert', jsonb_build_object('n', g), '{}' from generate_series(1, 500000) g`)
		for _, c := range positionsInABacklog {
			plan := run("explain (analyze, timing off, costs off) " + execute(c.args))
			if strings.Contains(plan, "Seq Scan on outbox_event") || strings.Contains(plan, "rows=500000") || strings.Contains(plan, "Sort Key: e") || !strings.Contains(plan, "$7") {
				t.Errorf("%s:\n%s", c.name, plan)
			}
		}
	})
}

func explain(t *testing.T, b bus, args ...any) string {
	t.Helper()
	settings, page := catalog.PageSQL("{1}")
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), "explain (analyze, timing off, costs off) "+page, args...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// The round that a copied position is in did not see an event which committed
// later and lies below where the round has got to. Nothing after it would.
func TestARoundOfAnotherHistoryBeginsAgain(t *testing.T) {
	t.Parallel()
	b := newBus(t, 0)
	var ids []string
	for range 5 {
		ids = append(ids, publish(t, b))
	}
	r := b.open(t)
	if err := r.Save(t.Context(), read(t, r, 4).Position); err != nil {
		t.Fatal(err)
	}
	schematest.Exec(t, b.pool, `
		update tide.outbox_event set xid = (9000000 + id)::text::xid8;
		update tide.outbox_event set xid = '9000100' where event_id = '`+ids[1]+`';
		update tide.outbox_event set xid = '9000050' where event_id = '`+ids[2]+`';
		update tide.pipeline_position set snapshot = '9000050:9000101:9000050,9000100', bound = '9000102',
			drain_snapshot = '9000100:9000101:9000100', drain_id = (select id from tide.outbox_event where event_id = '`+ids[2]+`');
		update tide.node set system_identifier = 1;
		select tide.node_look();
		select tide.relay_adopt(name) from tide.pipeline`)
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, r, 10, ids[1], ids[2]) // the second once more
	expect(t, r, 10, ids[4])
}
