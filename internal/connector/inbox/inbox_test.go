package inbox

import (
	"errors"
	"testing"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

var _ relay.Inbox = (*Inbox)(nil)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestWhatComesTwiceIsKeptOnceAndReadByTheWorker(t *testing.T) {
	t.Parallel()
	const relayID = "11111111-1111-1111-1111-111111111111"
	dsn := schematest.Database(t, 0)
	pool := pgtest.Pool(t, dsn)
	spec := schematest.Reverse(t, pool, "orders", relayID)
	c, err := catalog.Open(t.Context(), catalog.Options{ConnString: dsn, Relay: catalog.RelayInfo{ID: relayID}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	in := New(c, spec)
	batch := []message.Message{
		{EventID: "1", Source: "/d/o", Stream: "s", Op: "insert", EventType: "t", Payload: []byte(`{"n": 1}`)},
		{EventID: "2", Source: "/d/o", Stream: "s", Op: "insert", EventType: "t", Payload: []byte(`{"n": 2}`)},
	}
	for _, want := range []int{2, 0} {
		if added, err := in.Insert(t.Context(), batch); err != nil || added != want {
			t.Fatalf("%d added, %v; want %d", added, err, want)
		}
	}
	var n int
	schematest.Query(t, pool, `select count(*) from tide.inbox_pending('orders') where payload ->> 'n' = event_id`, nil, &n)
	if n != 2 {
		t.Errorf("%d pending", n)
	}
	schematest.Supersede(t, pool, spec)
	_, err = in.Insert(t.Context(), batch)
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictSuperseded || !errors.Is(err, catalog.ErrSuperseded) {
		t.Errorf("after another relay took over: %v", err)
	}
}
