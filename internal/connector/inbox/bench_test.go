package inbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// bareTable has the columns and indexes that an inbox had as one partition.
const bareTable = `
	create table bare (like tide.inbox_message including defaults);
	alter table bare add primary key (inbox_id, id), add unique (inbox_id, event_id);
	create index on bare (id) where num_nonnulls(processed_at, dead_at) < 1;
	create index on bare (id) where dead_at is not null;
	create index on bare (id) where num_nonnulls(processed_at, dead_at, next_attempt_at) < 1`

const bareInsert = `
	insert into bare (inbox_id, event_id, source, stream, key, op, event_type, payload, headers)
	select 1, m.event_id, m.source, m.stream, nullif(m.key, ''), m.op, m.event_type, m.payload::jsonb, m.headers::jsonb
	from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
		with ordinality as m (event_id, source, stream, key, op, event_type, payload, headers, place)
	order by m.place
	on conflict (inbox_id, event_id) do nothing`

// fillOlder puts messages into the part before the current one, and event
// ids into the memory.
const fillOlder = `
	insert into tide.inbox_message_1_0 (inbox_id, event_id, source, stream, op, event_type, payload, processed_at)
	select 1, gen_random_uuid(), 's', 's', 'o', 't', '{}', now() from generate_series(1, 100000);
	delete from tide.inbox_message_1_0 where id % 2 = 0;
	update tide.inbox_rotation set part = 1, horizon = now() - interval '1 hour';
	update tide.inbox_part set closed_at = case part when 0 then now() end, opened_at = now() where kind = 'messages' and part < 2;
	analyze tide.orders_inbox, tide.inbox_memory`

// BenchmarkInsert inserts batches of 1,000 messages of 200 bytes: by the bare
// statement, from an outbox, and from a stranger, whose every event id is
// looked up among 50,000 older messages and 50,000 remembered ones.
func BenchmarkInsert(b *testing.B) {
	const relayID = "11111111-1111-1111-1111-111111111111"
	for _, from := range []string{"bare", "/11111111-1111-1111-1111-111111111111/orders", "stranger"} {
		b.Run(from[:4], func(b *testing.B) {
			dsn := schematest.Database(b, 0)
			pool := pgtest.Pool(b, dsn)
			spec := schematest.Reverse(b, pool, "orders", relayID)
			schematest.Exec(b, pool, bareTable)
			schematest.Exec(b, pool, fillOlder)
			c, err := catalog.Open(b.Context(), catalog.Options{ConnString: dsn, Relay: catalog.RelayInfo{ID: relayID}})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(c.Close)
			in := New(c, spec)
			inserted := 0
			b.ReportAllocs()
			for b.Loop() {
				batch := batchFrom(from, inserted)
				if from == "bare" {
					insertBare(b, pool, batch)
				} else if added, err := in.Insert(b.Context(), batch); err != nil || added != len(batch) {
					b.Fatal(added, err)
				}
				inserted += len(batch)
			}
			b.ReportMetric(float64(inserted)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func batchFrom(source string, first int) []message.Message {
	batch := make([]message.Message, 1000)
	payload := fmt.Appendf(nil, `{"text": "%0180d"}`, 1)
	for i := range batch {
		// Event ids are random, as an outbox makes them.
		batch[i] = message.Message{EventID: randomID(first + i), Source: source, Stream: "orders",
			Key: "key", Op: "insert", EventType: "order.created", Time: time.Now(), Payload: payload}
	}
	return batch
}

// randomID spreads numbers over all UUIDs.
func randomID(n int) string {
	x := uint64(n) * 0x9e3779b97f4a7c15
	return fmt.Sprintf("%08x-%04x-4000-8000-%012x", uint32(x>>32), uint16(x>>16), uint64(n))
}

func insertBare(b *testing.B, pool *pgxpool.Pool, batch []message.Message) {
	b.Helper()
	var columns [8][]string
	for i := range batch {
		m := &batch[i]
		for j, value := range [...]string{m.EventID, m.Source, m.Stream, m.Key, m.Op, m.EventType, string(m.Payload), "{}"} {
			columns[j] = append(columns[j], value)
		}
	}
	_, err := pool.Exec(b.Context(), bareInsert,
		columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], columns[6], columns[7])
	if err != nil {
		b.Fatal(err)
	}
}
