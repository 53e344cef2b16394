package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/internal/wire"
)

// An event is in the inbox what a reverse pipeline would have made of it, and
// in the outbox what was published at the source.
func TestAnEventArrivesWithAllThatItWasPublishedWith(t *testing.T) {
	t.Parallel()
	const source = "/0191f6a0-0000-7000-8000-00000000000a/orders"
	codec := wire.Binary{Spelling: wire.NATS()}
	e, err := codec.Encode(&message.Message{EventID: "0191f6a0-0000-7000-8000-00000000000b", Source: source, Outbox: "orders", Stream: "sales", Key: "Größe 7",
		Op: "refund", EventType: "order.refunded", Payload: []byte(`{"total": 12345678901234567890.10}`), Headers: []byte(`{"trace": "a b", "nats-x": [1, 2.50]}`), Destination: "target"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"inbox":  `0191f6a0-0000-7000-8000-00000000000b|` + source + `|sales|Größe 7|refund|order.refunded|{"total": 12345678901234567890.10}|{"trace": "a b", "nats-x": [1, 2.50]}`,
		"outbox": `0191f6a0-0000-7000-8000-00000000000b|sales|Größe 7|refund|{"total": 12345678901234567890.10}|{"trace": "a b", "nats-x": [1, 2.50]}`,
	}
	query := map[string]string{
		"inbox":  `select concat_ws('|', event_id, source, stream, key, op, event_type, payload, headers) from tide.target_inbox`,
		"outbox": `select concat_ws('|', event_id, stream, key, op, payload, headers) from tide.outbox_event`,
	}
	for _, kind := range ends {
		for _, major := range []int{pgtest.Oldest, pgtest.Newest} {
			dsn, pool := shared(t, kind, major)
			sink := kind.sink(t, values{"url": dsn})
			open(t, sink)
			if err := send(t.Context(), sink, []message.Envelope{e}); err != nil {
				t.Fatal(err)
			}
			var got string
			schematest.Query(t, pool, query[kind.kind], nil, &got)
			if got != want[kind.kind] {
				t.Errorf("PostgreSQL %d: arrived\n%s, want\n%s", major, got, want[kind.kind])
			}
		}
	}
}

func TestAStrictDefaultIsolationIsNoHindrance(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		dsn, pool := shared(t, e, 0)
		schematest.Exec(t, pool, `do $$ begin execute format('alter database %I set default_transaction_isolation = ''serializable''', current_database()); end $$`)
		sink := e.sink(t, values{"url": dsn})
		open(t, sink)
		batch := sinktest.Envelopes("target", 1, 20)
		for range 2 {
			if err := send(t.Context(), sink, batch); err != nil {
				t.Fatalf("%s: %v", e.kind, err)
			}
		}
		if stored := e.all(t, pool); len(stored) != len(batch) {
			t.Errorf("%s: %d events are stored, want %d", e.kind, len(stored), len(batch))
		}
	}
}

// Two relays deliver at once what both believe to be theirs: each event is
// there once.
func TestTwoRelaysThatSendTheSameStoreItOnce(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		t.Run(e.kind, func(t *testing.T) {
			t.Parallel()
			dsn, pool := shared(t, e, 0)
			want := sinktest.Envelopes("target", 1, 1000)
			var relays sync.WaitGroup
			for range 3 {
				sink := e.sink(t, values{"url": dsn})
				open(t, sink)
				relays.Go(func() {
					for batch := range slices.Chunk(want, 50) {
						if err := send(t.Context(), sink, batch); err != nil {
							t.Errorf("send: %v", err)
						}
					}
				})
			}
			relays.Wait()
			stored := e.all(t, pool)
			for i := range want {
				if len(stored) != len(want) || stored[i].EventID != want[i].EventID {
					t.Fatalf("%d events are stored, or out of order at %d, want %d in order", len(stored), i, len(want))
				}
			}
		})
	}
}

// The crash comes while batches are under way, on a server whose commits do
// not wait for the disk; what was acknowledged survives it.
func TestWhatWasAcknowledgedSurvivesACrashOfTheTarget(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		t.Run(e.kind, func(t *testing.T) {
			t.Parallel()
			server, dsn := own(t, e, throwaway.Options{Durable: true, Settings: map[string]string{"synchronous_commit": "off", "wal_writer_delay": "10s"}})
			sink := e.sink(t, values{"url": dsn})
			ctx := limited(t)
			open(t, sink)
			const n, size = 60, 20
			acknowledged := 0
			crashes := map[int]bool{7: true, 31: true}
			for acknowledged < n {
				var crash sync.WaitGroup
				if crashes[acknowledged] {
					delete(crashes, acknowledged)
					crash.Go(func() { // in the middle of this batch, or of one of the next
						if err := server.Crash(context.WithoutCancel(ctx)); err != nil {
							t.Error(err)
						}
						if err := server.Start(context.WithoutCancel(ctx)); err != nil {
							t.Error(err)
						}
					})
				}
				err := send(ctx, sink, sinktest.Envelopes("target", 1+acknowledged*size, size))
				crash.Wait()
				for err != nil { // as the engine does
					if ctx.Err() != nil {
						t.Fatal(err)
					}
					if err = sink.Open(ctx); err == nil {
						err = send(ctx, sink, sinktest.Envelopes("target", 1+acknowledged*size, size))
					}
				}
				acknowledged++
			}
			stored := e.all(t, pgtest.Pool(t, dsn))
			want := sinktest.Envelopes("target", 1, n*size)
			if len(stored) != len(want) {
				t.Fatalf("%d events are stored, want %d", len(stored), len(want))
			}
			for i := range want {
				if stored[i].EventID != want[i].EventID {
					t.Fatalf("event %d is %s, want %s", i, stored[i].EventID, want[i].EventID)
				}
			}
		})
	}
}

// Rules may lead to several inboxes of the other database. One that nobody
// made refuses its own events and no others.
func TestEventsAreSpreadOverInboxesByName(t *testing.T) {
	t.Parallel()
	e := ends[0]
	dsn, pool := shared(t, e, 0)
	schematest.Exec(t, pool, `select tide.inbox_create('other')`)
	sink := e.sink(t, values{"url": dsn}, "target", "{stream}")
	open(t, sink)
	batch := sinktest.Envelopes("target", 1, 9)
	for i := range batch {
		batch[i].Destination = []string{"target", "other", "nowhere"}[i%3]
	}
	err := send(t.Context(), sink, batch)
	wantError(t, err, delivery.VerdictReject, `inbox "nowhere" does not exist`)
	kept := slices.DeleteFunc(slices.Clone(batch), func(e message.Envelope) bool { return e.Destination == "nowhere" })
	if err := send(t.Context(), sink, kept); err != nil {
		t.Fatal(err)
	}
	var got string
	schematest.Query(t, pool, `select (select string_agg(payload->>'n', ' ' order by id) from tide.target_inbox) || '|' || (select string_agg(payload->>'n', ' ' order by id) from tide.other_inbox)`, nil, &got)
	if got != "1 4 7|2 5 8" {
		t.Errorf("the inboxes hold %s", got)
	}
}

// What can never be stored is named before anything of the batch is, so that
// the order survives whatever becomes of it.
func TestAnEventThatCannotBeStoredIsNamedAndNothingIsStored(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		dsn, pool := shared(t, e, 0)
		sink := e.sink(t, values{"url": dsn})
		open(t, sink)
		batch := sinktest.Envelopes("target", 1, 10)
		batch[4].Body = []byte(`{"n": "\u0000"}`)
		batch[7].Body = []byte(`{"n": `)
		err := send(t.Context(), sink, batch)
		wantError(t, err, delivery.VerdictReject, `"target" cannot take the`, `\u0000`)
		if text := fmt.Sprint(err); !strings.Contains(text, "and 1 more") {
			t.Errorf("%s: %s", e.kind, text)
		}
		if stored := e.all(t, pool); len(stored) != 0 {
			t.Errorf("%s: %d events of a refused batch are stored", e.kind, len(stored))
		}
	}
}
