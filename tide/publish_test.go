package tide_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/tide"
)

func TestAnEventIsThereIfAndOnlyIfItsTransactionCommitted(t *testing.T) {
	pgtest.Each(t, both, func(t *testing.T, major int) {
		db := database(t, major)
		ctx := t.Context()
		conn := pgtest.Conn(t, db.Pool.Config().ConnString())
		sqlDB := openSQL(t, db)
		publish := func(q tide.Querier, name string) {
			t.Helper()
			if _, err := tide.Publish(ctx, q, "o", tide.Event{Type: name, Payload: name}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := tide.PublishMany(ctx, q, "o", []tide.Event{{Type: name + "-1", Payload: 1}, {Type: name + "-2", Payload: 2}}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		for _, end := range []string{"commit", "rollback"} {
			tx, err := db.Pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			publish(tx, "pgx-"+end)
			sqlTx, err := sqlDB.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			publish(tide.SQL(sqlTx), "sql-"+end)
			if end == "commit" {
				err = errors.Join(tx.Commit(ctx), sqlTx.Commit())
			} else {
				err = errors.Join(tx.Rollback(ctx), sqlTx.Rollback())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		publish(conn, "conn")
		publish(db.Pool, "pool")
		publish(tide.SQL(sqlDB), "sqldb")
		var got []string
		for _, e := range db.Published("o") {
			got = append(got, e.Type)
		}
		slices.Sort(got)
		want := "conn conn-1 conn-2 pgx-commit pgx-commit-1 pgx-commit-2 pool pool-1 pool-2 sql-commit sql-commit-1 sql-commit-2 sqldb sqldb-1 sqldb-2"
		if strings.Join(got, " ") != want {
			t.Errorf("published are %s; want %s", got, want)
		}
	})
}

// Whatever is published by either way and by either driver arrives as it was.
func TestNothingOfAnEventIsChangedOnItsWay(t *testing.T) {
	db := database(t, 0)
	nasty := "q\"uo'te \\ back {a,b} NULL \n\t é 日本 \u2028 $1 :x ?"
	events := []tide.Event{
		{Type: "plain", Payload: map[string]any{"text": nasty}, Key: nasty, Stream: "s" + nasty, Op: "a.b-c_D", Headers: map[string]any{nasty: nasty, "n": 1.5, "deep": []any{true, nil}}},
		{Type: "NULL", Payload: json.RawMessage(`null`), Key: "NULL", ID: "0190a5c6-7d2e-7000-8000-000000000001"},
		{Payload: []int{}},
		{Type: nasty, Payload: nasty},
	}
	for i, q := range []tide.Querier{db.Pool, tide.SQL(openSQL(t, db))} {
		for j, publish := range []func([]tide.Event) ([]string, error){
			func(all []tide.Event) ([]string, error) { return tide.PublishMany(t.Context(), q, "o", all) },
			func(all []tide.Event) ([]string, error) {
				var ids []string
				for _, e := range all {
					id, err := tide.Publish(t.Context(), q, "o", e)
					if err != nil {
						return nil, err
					}
					ids = append(ids, id)
				}
				return ids, nil
			},
		} {
			before := len(db.Published("o"))
			events[1].ID = fmt.Sprintf("0190a5c6-7d2e-7000-8000-0000000000%d%d", i, j)
			ids, err := publish(events)
			if err != nil {
				t.Fatal(err)
			}
			got := db.Published("o")[before:]
			for k, e := range got {
				if e.ID != ids[k] {
					t.Errorf("event %d has the id %s, and was said to have %s", k, e.ID, ids[k])
				}
			}
			if got[1].ID != events[1].ID {
				t.Errorf("the id given is %s, and the event's %s", events[1].ID, got[1].ID)
			}
			db.AssertPublished("o", events...)
			if got[2].Key != "" || got[2].Stream != "o" || got[2].Op != "insert" || len(got[2].Headers) != 0 || got[0].Key != nasty {
				t.Errorf("published is %+v", got)
			}
		}
	}
}

func TestAPublisherPublishesPayloadsOfItsTypeInOrder(t *testing.T) {
	db := database(t, 0)
	p := tide.Publisher[order]{Outbox: "o", Type: "order.created", Stream: "orders", Key: func(o order) string { return fmt.Sprint(o.ID) }}
	var orders []order
	var want []tide.Event
	for i := range 500 {
		orders = append(orders, order{ID: i})
		want = append(want, tide.Event{Type: "order.created", Stream: "orders", Key: fmt.Sprint(i), Payload: order{ID: i}})
	}
	for _, some := range [][]order{nil, orders[:1], orders[1:]} {
		ids, err := p.Publish(t.Context(), db.Pool, some...)
		if err != nil || len(ids) != len(some) {
			t.Fatalf("%d ids of %d events, %v", len(ids), len(some), err)
		}
	}
	db.AssertPublished("o", want...)
	if n := len(db.Published("o")); n != 500 {
		t.Errorf("%d events", n)
	}
}

func TestTheTraceOfTheContextIsSentAlong(t *testing.T) {
	db := database(t, 0)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := tide.WithTrace(t.Context(), parent, "a=b")
	from := tide.HeadersFrom(func(context.Context) map[string]string {
		return map[string]string{"traceparent": "hook", "baggage": "c=d"}
	})
	for _, c := range []struct {
		event   tide.Event
		options []tide.Option
		want    map[string]any
	}{
		{tide.Event{Payload: 1}, nil, map[string]any{"traceparent": parent, "tracestate": "a=b"}},
		{tide.Event{Payload: 2}, []tide.Option{from}, map[string]any{"traceparent": "hook", "baggage": "c=d"}},
		{tide.Event{Payload: 3, Headers: map[string]any{"traceparent": "own"}}, nil, map[string]any{"traceparent": "own"}},
	} {
		if _, err := tide.Publish(ctx, db.Pool, "o", c.event, c.options...); err != nil {
			t.Fatal(err)
		}
		db.AssertPublished("o", tide.Event{Payload: c.event.Payload, Headers: c.want})
	}
	// What a handler publishes belongs to the trace of its message.
	id := db.Deliver("i", tide.Event{Payload: 4, Headers: map[string]any{"traceparent": parent}})
	w := start(t, db, tide.WorkerConfig{}, func(w *tide.Worker) {
		w.HandleOthers(func(ctx context.Context, _ *tide.Message) error {
			tx, err := tide.Tx(ctx)
			if err != nil {
				return err
			}
			_, err = tide.Publish(ctx, tx, "o", tide.Event{Payload: 4})
			return err
		})
	})
	w.WaitFor(t, id, tide.Processed)
	db.AssertPublished("o", tide.Event{Payload: 4, Headers: map[string]any{"traceparent": parent}})
}

func TestWhatCannotBePublishedIsNamedWithAHint(t *testing.T) {
	db := database(t, 0)
	for name, c := range map[string]struct {
		outbox string
		events []tide.Event
		want   []string
	}{
		"no such outbox":  {"missing", []tide.Event{{Payload: 1}}, []string{`"missing"`, "tide.outbox_create"}},
		"a payload":       {"o", []tide.Event{{Type: "t", Payload: func() {}}}, []string{`"o"`, `"t"`, "JSON"}},
		"two types":       {"o", []tide.Event{{Type: "a", Payload: 1, Headers: map[string]any{"event_type": "b"}}}, []string{"give one of them"}},
		"an id":           {"o", []tide.Event{{Payload: 1, ID: "7"}}, []string{`"7"`, "uuid"}},
		"an op":           {"o", []tide.Event{{Payload: 1, Op: "no way"}}, []string{"no way"}},
		"one of several":  {"o", []tide.Event{{Payload: 1}, {Payload: 1, Op: "no way"}}, []string{"event 2 of 2", "no way"}},
		"one of two, too": {"o", []tide.Event{{Payload: 1}, {Payload: func() {}}}, []string{"event 2 of 2"}},
	} {
		var err error
		if len(c.events) == 1 {
			_, err = tide.Publish(t.Context(), db.Pool, c.outbox, c.events[0])
		} else {
			_, err = tide.PublishMany(t.Context(), db.Pool, c.outbox, c.events)
		}
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", name, err, want)
			}
		}
	}
	if n := len(db.Published("o")); n != 0 {
		t.Errorf("%d events are there", n)
	}
	// A Querier of the user's own is enough.
	var _ tide.Querier = (*pgx.Conn)(nil)
}
