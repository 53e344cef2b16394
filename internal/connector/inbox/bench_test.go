package inbox

import (
	"fmt"
	"testing"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// BenchmarkInsert inserts batches of 1,000 messages of 200 bytes.
func BenchmarkInsert(b *testing.B) {
	const relayID = "11111111-1111-1111-1111-111111111111"
	dsn := schematest.Database(b, 0)
	pool := pgtest.Pool(b, dsn)
	spec := schematest.Reverse(b, pool, "orders", relayID)
	c, err := catalog.Open(b.Context(), catalog.Options{ConnString: dsn, Relay: catalog.RelayInfo{ID: relayID}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	in := New(c, spec)
	batch := make([]message.Message, 1000)
	payload := []byte(fmt.Sprintf(`{"text": "%0180d"}`, 1))
	inserted := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			batch[i] = message.Message{EventID: fmt.Sprintf("event-%d", inserted+i), Source: "/database/orders", Stream: "orders",
				Key: "key", Op: "insert", EventType: "order.created", Payload: payload}
		}
		added, err := in.Insert(b.Context(), batch)
		if err != nil {
			b.Fatal(err)
		}
		inserted += added
	}
	b.ReportMetric(float64(inserted)/b.Elapsed().Seconds(), "messages/s")
}
