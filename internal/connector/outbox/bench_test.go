package outbox

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// BenchmarkRead reads a backlog of events of 200 bytes by pages of 500.
func BenchmarkRead(b *testing.B) {
	const backlog = 200000
	dsn := schematest.Database(b, 0)
	pool := pgtest.Pool(b, dsn)
	spec := schematest.Forward(b, pool, "orders", relayID)
	schematest.Exec(b, pool, `insert into tide.outbox_event (part, stream, op, key, payload, headers)
		select 1, 'orders', 'insert', g % 1000, jsonb_build_object('n', g, 'text', repeat('x', 180)), '{}' from generate_series(1, 200000) g`)
	c, err := catalog.Open(b.Context(), catalog.Options{ConnString: dsn, Relay: catalog.RelayInfo{ID: relayID}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	r := New(c, spec)
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		if events%backlog == 0 {
			if err := r.Open(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		page, err := r.Read(b.Context(), 500)
		if err != nil {
			b.Fatal(err)
		}
		events += len(page.Messages)
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
