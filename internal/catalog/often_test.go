package catalog

import (
	"fmt"
	"testing"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// onEachConnection runs a statement on every connection of the pool that is
// not in use, and adds up the numbers that it returns.
func onEachConnection(t *testing.T, c *Catalog, sql string) (sum int) {
	t.Helper()
	for _, conn := range c.pool.AcquireAllIdle(t.Context()) {
		var n int
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		sum += n
		conn.Release()
	}
	return sum
}

const preparedNow = `select count(*) from pg_prepared_statements where name like 'stmt_%'`

// Behind a pooler the next statement may reach another server process, which
// knows of nothing that was prepared.
func TestStatementsStayPreparedOnlyWhereASessionStaysWithItsServer(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Forward(t, pool, "o", relayA)
	direct, pooled := open(t, dsn, relayA), open(t, pooler(t, dsn), relayA)
	for n, c := range []*Catalog{direct, pooled} {
		position := message.Position{Sequence: int64(n + 1), Snapshot: "10:10:", LastID: 1, Bound: 10, Incarnation: 1}
		if err := c.SavePosition(t.Context(), OwnerOf(spec), position); err != nil {
			t.Fatal(err)
		}
	}
	if n := onEachConnection(t, direct, preparedNow); n != 1 {
		t.Errorf("%d statements are prepared on direct connections", n)
	}
	if n := onEachConnection(t, pooled, preparedNow); n != 0 {
		t.Errorf("%d statements are prepared behind a pooler", n)
	}
}

// Whoever deallocates what the relay has prepared costs it one statement.
func TestAStatementThatIsNoLongerPreparedIsPreparedAgain(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Forward(t, pool, "o", relayA)
	c := open(t, dsn, relayA)
	save := func(sequence int64) error {
		return c.SavePosition(t.Context(), OwnerOf(spec), message.Position{Sequence: sequence, Snapshot: "10:10:", LastID: 1, Bound: 10, Incarnation: 1})
	}
	if err := save(1); err != nil {
		t.Fatal(err)
	}
	for _, conn := range c.pool.AcquireAllIdle(t.Context()) {
		if _, err := conn.Exec(t.Context(), "deallocate all"); err != nil {
			t.Fatal(err)
		}
		conn.Release()
	}
	if err := save(2); err == nil {
		t.Error("a statement ran that nobody has prepared")
	}
	if err := save(2); err != nil {
		t.Errorf("the connection was kept: %v", err)
	}
}

// The parts of an outbox stand in the text of its pages and change; a
// connection that lives for months must not keep them all.
func TestAConnectionForgetsTheOldestPreparedStatements(t *testing.T) {
	t.Parallel()
	dsn, _ := newDatabase(t, 0)
	c := open(t, dsn, relayA)
	conn, err := c.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for n := range mostPrepared + 10 {
		if err := prepare(t.Context(), conn.Conn(), fmt.Sprintf("select %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	var kept int
	if err := conn.QueryRow(t.Context(), preparedNow).Scan(&kept); err != nil {
		t.Fatal(err)
	}
	if kept != mostPrepared {
		t.Errorf("%d statements are kept, want %d", kept, mostPrepared)
	}
}

// A statement whose plan for its parameters looks cheaper than the one for all
// is planned whenever it runs, though it is prepared: that costs more than it does.
func TestWhatRunsWithEachBatchIsPlannedOnce(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	out, in := schematest.Forward(t, pool, "o", relayA), schematest.Reverse(t, pool, "i", relayA)
	c := open(t, dsn, relayA)
	repeats := &Repeats{}
	for n := range 30 {
		position := message.Position{Sequence: int64(n + 1), Snapshot: "10:10:", LastID: 1, Bound: 10, Incarnation: 1}
		if err := c.SavePosition(t.Context(), OwnerOf(out), position); err != nil {
			t.Fatal(err)
		}
		if err := c.SaveMark(t.Context(), OwnerOf(in), int64(2*n+1), message.Mark{Origin: "s", Sequence: uint64(n), Delivery: uint64(n)}); err != nil {
			t.Fatal(err)
		}
		target := InboxTarget{Owner: OwnerOf(in), InboxID: in.EndpointID, Inbox: in.Endpoint, Repeats: repeats}
		event := message.Message{EventID: fmt.Sprint(n), Source: "/s", Stream: "s", Op: "insert", EventType: "t", Payload: []byte(`{}`), Headers: []byte(`{}`)}
		if _, err := c.InsertInbox(t.Context(), target, []message.Message{event}); err != nil {
			t.Fatal(err)
		}
		event.EventID += " marked"
		if _, err := c.InsertInboxMarked(t.Context(), target, []message.Message{event}, int64(2*n+2), message.Mark{Origin: "s"}); err != nil {
			t.Fatal(err)
		}
	}
	// PostgreSQL plans five times for the parameters before it decides.
	const often = `select count(*) from pg_prepared_statements where name like 'stmt_%' and custom_plans > 5`
	if n := onEachConnection(t, c, often); n != 0 {
		t.Errorf("%d statements are planned each time", n)
	}
	if n := onEachConnection(t, c, `select count(*) from pg_prepared_statements where name like 'stmt_%' and generic_plans > 0`); n < 4 {
		t.Errorf("%d statements have a plan for all parameters, want 4 at least", n)
	}
}
