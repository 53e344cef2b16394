package catalog

import (
	"context"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// heartbeat returns what a relay owns, and the names of those that are not surplus.
func heartbeat(t *testing.T, c *Catalog) (names []string, specs []pipeline.Spec) {
	t.Helper()
	specs, err := c.Registry().Heartbeat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		if !s.Surplus {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names, specs
}

// unowned makes pipelines that nobody owns yet.
func unowned(t *testing.T, pool *pgxpool.Pool, outboxes ...string) {
	t.Helper()
	for _, o := range outboxes {
		schematest.Forward(t, pool, o, relayA)
	}
	schematest.Exec(t, pool, "update tide.pipeline_owner set relay_id = null")
}

func TestRelaysShareThePipelinesFairly(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1", "o2", "o3")
	a, b := open(t, dsn, relayA), open(t, dsn, relayB)

	names, specs := heartbeat(t, a)
	if !slices.Equal(names, []string{"o1-out", "o2-out", "o3-out"}) {
		t.Fatalf("the only relay owns %v", names)
	}
	if s := specs[0]; s.Fence < 1 || s.Direction != pipeline.Forward || s.Endpoint != "o1" || s.EndpointID == 0 ||
		s.DatabaseID == "" || string(s.Config) != "{}" || s.Version != 1 {
		t.Errorf("unexpected spec %+v", s)
	}
	if names, _ := heartbeat(t, b); len(names) != 0 {
		t.Fatalf("a second relay took %v from one that lives", names)
	}
	names, specs = heartbeat(t, a)
	if len(names) != 2 || len(specs) != 3 {
		t.Fatalf("with a second relay the first keeps %v and is told of %d", names, len(specs))
	}
	for _, s := range specs {
		if s.Surplus {
			if err := a.Registry().Release(t.Context(), s.ID, s.Fence); err != nil {
				t.Fatal(err)
			}
		}
	}
	taken, _ := heartbeat(t, b)
	if again, _ := heartbeat(t, a); len(taken) != 1 || len(again) != 2 {
		t.Fatalf("first owns %v, second %v", again, taken)
	}
	if err := a.Registry().Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, _ := heartbeat(t, b); len(names) != 3 {
		t.Fatalf("after the first left, the second owns %v", names)
	}
}

func TestAPausedOrDeletedPipelineIsNotReturned(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1", "o2")
	a := open(t, dsn, relayA)
	heartbeat(t, a)
	schematest.Exec(t, pool, "select tide.relay_disable('o1-out')")
	if names, _ := heartbeat(t, a); !slices.Equal(names, []string{"o2-out"}) {
		t.Fatalf("it returned %v", names)
	}
	schematest.Exec(t, pool, "select tide.relay_delete('o2-out')")
	if names, _ := heartbeat(t, a); len(names) != 0 {
		t.Fatalf("it returned %v", names)
	}
}

func TestASilentRelayIsSupersededAndCanWriteNothingMore(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1")
	inbox := schematest.Inbox(t, pool, "i")
	a, b := open(t, dsn, relayA), open(t, dsn, relayB)
	_, before := heartbeat(t, a)
	owner := Owner{PipelineID: before[0].ID, Fence: before[0].Fence}
	position := message.Position{Sequence: 1, Snapshot: "10:10:", LastID: 1, Bound: 10, Incarnation: 1}
	if err := a.SavePosition(t.Context(), owner, position); err != nil {
		t.Fatal(err)
	}

	// Silence is measured by the database's clock.
	schematest.Exec(t, pool, "update tide.relay_instance set heartbeat_at = clock_timestamp() - interval '5 seconds' where id = $1", relayA)
	if names, _ := heartbeat(t, b); len(names) != 0 {
		t.Fatalf("after 5 seconds the second relay took %v", names)
	}
	schematest.Exec(t, pool, "update tide.relay_instance set heartbeat_at = clock_timestamp() - interval '9 seconds' where id = $1", relayA)
	_, after := heartbeat(t, b)
	if len(after) != 1 || after[0].Fence != before[0].Fence+1 {
		t.Fatalf("after 9 seconds the second relay got %+v", after)
	}

	position.Sequence = 2
	letter := []message.DeadLetter{{Message: message.Message{EventID: "e"}, Error: "x"}}
	letters := a.DeadLetters(owner)
	target := InboxTarget{Owner: owner, InboxID: inbox, Inbox: "i"}
	_, insert := a.InsertInbox(t.Context(), target, []message.Message{{EventID: "e", Payload: []byte("1")}})
	_, read := a.ReadPage(t.Context(), PageRequest{Owner: owner, OutboxID: before[0].EndpointID, Parts: "{1}", Limit: 1, Bytes: 1})
	for what, err := range map[string]error{
		"save":          a.SavePosition(t.Context(), owner, position),
		"add":           letters.Add(t.Context(), letter),
		"settle":        letters.Settle(t.Context(), 1, nil),
		"settle failed": letters.Settle(t.Context(), 1, ErrSuperseded),
		"insert":        insert,
		"read":          read,
	} {
		if !isSuperseded(err) {
			t.Errorf("%s by the superseded relay: %v", what, err)
		}
	}
	var left int
	schematest.Query(t, pool, "select (select count(*) from tide.dead_letter) + (select count(*) from tide.inbox_message)", nil, &left)
	if left != 0 {
		t.Errorf("the superseded relay left %d rows", left)
	}
}

func TestAnOwnerCannotBeReplacedWhileItsSaveIsUnderWay(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1")
	a, b := open(t, dsn, relayA), open(t, dsn, relayB)
	_, specs := heartbeat(t, a)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), positionSaveSQL, specs[0].ID, relayA, specs[0].Fence, int64(1), "10:10:", int64(1), uint64(10),
		int64(0), nil, nil, 1, nil); err != nil {
		t.Fatal(err)
	}
	schematest.Exec(t, pool, "update tide.relay_instance set heartbeat_at = clock_timestamp() - interval '9 seconds'")
	if names, _ := heartbeat(t, b); len(names) != 0 {
		t.Fatalf("%v was taken over in the middle of a save", names)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, _ := heartbeat(t, b); len(names) != 1 {
		t.Fatalf("after the save it owns %v", names)
	}
}

func TestTwoSavesUnderOneSequenceCollide(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Forward(t, pool, "o", relayA)
	a := open(t, dsn, relayA)
	owner := Owner{PipelineID: spec.ID, Fence: spec.Fence}
	schematest.Exec(t, pool, "select setval('tide.outbox_event_id_seq', 5)")
	p := message.Position{Sequence: 1, Snapshot: "10:12:11", LastID: 5, Bound: 13, FloorID: 2, Incarnation: 1, DrainSnapshot: "12:12:", DrainID: 3}
	if err := a.SavePosition(t.Context(), owner, p); err != nil {
		t.Fatal(err)
	}
	if err := a.SavePosition(t.Context(), owner, p); err == nil || isSuperseded(err) {
		t.Errorf("the second save: %v", err)
	}
	start, err := a.LoadPosition(t.Context(), spec.ID, spec.EndpointID)
	if err != nil || start.Position != p {
		t.Errorf("loaded %+v, %v; want %+v", start.Position, err, p)
	}
}

func TestReportsAreShownAndThoseOfASupersededRelayDropped(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Forward(t, pool, "o", relayA)
	a := open(t, dsn, relayA)
	report := pipeline.Report{PipelineID: spec.ID, Fence: spec.Fence, State: pipeline.StateWaiting, Reason: "no broker\x00",
		LastError: "refused", LastErrorAt: time.Now(), Delivered: 3, Filtered: 2, Failed: 1, RatePerSecond: 1.5, Lag: 42, LagKnown: true}
	old := report
	old.Fence, old.State = spec.Fence-1, pipeline.StateRunning
	if err := a.Registry().Report(t.Context(), []pipeline.Report{report}); err != nil {
		t.Fatal(err)
	}
	if err := a.Registry().Report(t.Context(), []pipeline.Report{old}); err != nil {
		t.Fatal(err)
	}
	var state, reason string
	var delivered int
	schematest.Query(t, pool, "select state, reason, delivered from tide.pipeline_state", nil, &state, &reason, &delivered)
	if state != "waiting" || reason != "no broker\uFFFD" || delivered != 3 {
		t.Errorf("state %q, reason %q, delivered %d", state, reason, delivered)
	}
	var lag *int64
	for _, known := range []bool{true, false} {
		report.LagKnown = known
		if err := a.Registry().Report(t.Context(), []pipeline.Report{report}); err != nil {
			t.Fatal(err)
		}
		schematest.Query(t, pool, "select lag_events from tide.pipeline_state", nil, &lag)
		if known != (lag != nil && *lag == 42) {
			t.Errorf("the lag is %v; it is known: %t", lag, known)
		}
	}
}

func TestConfigurationChangesAreSignalled(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1")
	a := open(t, dsn, relayA)
	awaitChange(t, a) // listening has begun
	schematest.Exec(t, pool, "select tide.relay_disable('o1-out')")
	awaitChange(t, a)
}

func awaitChange(t *testing.T, c *Catalog) {
	t.Helper()
	select {
	case <-c.Changed():
	case <-time.After(20 * time.Second):
		t.Fatal("no change was signalled")
	}
}

// batches counts the statements that are sent in batches.
type batches struct{ statements atomic.Int64 }

func (b *batches) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (b *batches) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (b *batches) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	b.statements.Add(int64(d.Batch.Len()))
	return ctx
}
func (b *batches) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (b *batches) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// A relay that has all it may have says that it lives by one statement, and
// learns by it what the long way would have told.
func TestAHeartbeatWithNothingToClaimIsOneStatement(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	unowned(t, pool, "o1", "o2")
	schematest.Inbox(t, pool, "i")
	a := open(t, dsn, relayA)
	counted := &batches{}
	a.heart.config.Tracer = counted
	_, long := heartbeat(t, a)
	counted.statements.Store(0)
	_, short := heartbeat(t, a)
	if n := counted.statements.Load(); n != 1 {
		t.Errorf("%d statements", n)
	}
	if !reflect.DeepEqual(long, short) || len(short) != 2 {
		t.Errorf("the long way said %+v, the short one %+v", long, short)
	}
	schematest.Exec(t, pool, `insert into tide.dead_letter (pipeline_id, identity, error, attempts) values ($1, 'x', 'x', 1)`, short[1].ID)
	if _, specs := heartbeat(t, a); specs[0].Letters || !specs[1].Letters {
		t.Errorf("letters are not told of: %+v", specs)
	}
	// a second relay makes one of them surplus, a third pipeline is claimed at once
	b := open(t, dsn, relayB)
	heartbeat(t, b)
	if names, specs := heartbeat(t, a); len(names) != 1 || len(specs) != 2 {
		t.Errorf("with a second relay the first keeps %v of %d", names, len(specs))
	}
	if err := b.Registry().Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	unowned(t, pool, "o3")
	counted.statements.Store(0)
	if names, _ := heartbeat(t, a); len(names) != 3 {
		t.Errorf("it owns %v", names)
	}
	if n := counted.statements.Load(); n != 4 {
		t.Errorf("%d statements to claim", n)
	}
}
