package inbox

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

const retention = time.Hour

// ourSource is that of an outbox, whose times an inbox relies upon.
const ourSource = "/11111111-1111-1111-1111-111111111111/orders"

// box is an inbox with the retention and pipelines into it. Its clock is the
// database's, put forward by pass.
type box struct {
	dsn     string
	pool    *pgxpool.Pool
	relays  []*Inbox
	elapsed time.Duration
}

func newBox(t testing.TB, major, pipelines int) *box {
	t.Helper()
	const relayID = "11111111-1111-1111-1111-111111111111"
	b := &box{dsn: schematest.Database(t, major)}
	b.pool = pgtest.Pool(t, b.dsn)
	spec := schematest.Reverse(t, b.pool, "orders", relayID)
	schematest.Exec(t, b.pool, `update tide.inbox set retention = $1`, retention)
	c, err := catalog.Open(t.Context(), catalog.Options{ConnString: b.dsn, Relay: catalog.RelayInfo{ID: relayID}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b.relays = append(b.relays, New(c, spec))
	for i := 1; i < pipelines; i++ {
		another := spec
		schematest.Query(t, b.pool, `insert into tide.pipeline (name, direction, inbox_id, config) values ($1, 'reverse', $2, '{}') returning id`,
			[]any{fmt.Sprintf("orders-in-%d", i), spec.EndpointID}, &another.ID)
		schematest.Exec(t, b.pool, `insert into tide.pipeline_owner (pipeline_id, relay_id, fence) values ($1, $2, $3)`, another.ID, relayID, spec.Fence)
		b.relays = append(b.relays, New(c, another))
	}
	return b
}

// event is one that was published at a time of the box's clock.
func (b *box) event(id, source string, published time.Duration) message.Message {
	return message.Message{EventID: id, Source: source, Stream: "orders", Key: "k", Op: "insert", EventType: "orders.insert",
		Time: time.Now().Add(published - b.elapsed), Payload: []byte(`{"n": 1}`)}
}

// events are published now.
func (b *box) events(from, until int) []message.Message {
	batch := make([]message.Message, 0, until-from)
	for i := from; i < until; i++ {
		batch = append(batch, b.event(fmt.Sprintf("00000000-0000-4000-8000-%012d", i), ourSource, b.elapsed))
	}
	return batch
}

// again is what was published at the box's beginning and comes now.
func (b *box) again(batch []message.Message) []message.Message {
	later := slices.Clone(batch)
	for i := range later {
		later[i].Time = later[i].Time.Add(-b.elapsed)
	}
	return later
}

func (b *box) insert(t testing.TB, batch []message.Message) (added int) {
	t.Helper()
	added, err := b.relays[0].Insert(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

// pass lets time pass, by making everything that much older.
func (b *box) pass(t testing.TB, d time.Duration) {
	t.Helper()
	b.elapsed += d
	schematest.Exec(t, b.pool, `
		with parts as (
			update tide.inbox_part
			set opened_at = opened_at - $1::interval, closed_at = closed_at - $1::interval, waiting_since = waiting_since - $1::interval
		)
		update tide.inbox_rotation set horizon = horizon - $1::interval, latest = latest - $1::interval`, d)
}

// maintain cleans until nothing is left to do, and says what was done.
func (b *box) maintain(t testing.TB) (steps []string) {
	t.Helper()
	for {
		var step *string
		var more bool
		schematest.Query(t, b.pool, `select m ->> 'step', (m ->> 'more')::boolean from tide.inbox_maintain() m`, nil, &step, &more)
		if !more {
			return steps
		}
		steps = append(steps, *step)
		if len(steps) > 1000 {
			t.Fatalf("it finds no end: %q", steps[len(steps)-5:])
		}
	}
}

func (b *box) count(t testing.TB, condition string) (n int) {
	t.Helper()
	schematest.Query(t, b.pool, `select count(*) from tide.orders_inbox where `+condition, nil, &n)
	return n
}

func (b *box) remembered(t testing.TB) (n int) {
	t.Helper()
	schematest.Query(t, b.pool, `select (tide.inbox_status('orders') #>> '{memory,event_ids}')::int`, nil, &n)
	return n
}

func (b *box) mark(t testing.TB, condition string) {
	t.Helper()
	schematest.Exec(t, b.pool, `select tide.inbox_mark_processed('orders', array(select id from tide.inbox_pending('orders') where `+condition+`))`)
}

// clean lets the retention of all that is there pass, and cleans it.
func (b *box) clean(t testing.TB) (steps []string) {
	t.Helper()
	for range 2 {
		b.pass(t, retention+time.Second)
		steps = append(steps, b.maintain(t)...)
	}
	return steps
}
