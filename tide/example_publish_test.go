package tide_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pg-tide/pg-tide/tide"
)

// The order and its event are one transaction.
func ExamplePublish() {
	db, done := setUp()
	defer done()
	ctx := context.Background()

	tx, err := db.Pool.Begin(ctx)
	if err != nil {
		panic(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `insert into orders values ('ORD-001', 149.99)`); err != nil {
		panic(err)
	}
	_, err = tide.Publish(ctx, tx, "order_events", tide.Event{
		Type: "order.created", Key: "ORD-001", Payload: Order{ID: "ORD-001", Total: 149.99},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("before the commit:", len(db.Published("order_events")))
	if err := tx.Commit(ctx); err != nil {
		panic(err)
	}
	fmt.Println("after it:", len(db.Published("order_events")))
	// Output:
	// before the commit: 0
	// after it: 1
}

// Many events, one round trip, all or none.
func ExamplePublishMany() {
	db, done := setUp()
	defer done()

	ids, err := tide.PublishMany(context.Background(), db.Pool, "order_events", []tide.Event{
		{Type: "order.created", Key: "ORD-001", Payload: Order{ID: "ORD-001"}},
		{Type: "order.paid", Key: "ORD-001", Payload: Order{ID: "ORD-001"}},
	})
	fmt.Println(len(ids), err)
	// Output: 2 <nil>
}

// With every field; all but the payload may be left out.
func ExampleEvent() {
	db, done := setUp()
	defer done()

	id, err := tide.Publish(context.Background(), db.Pool, "order_events", tide.Event{
		ID:      "0190a5c6-7d2e-7000-8000-000000000001",
		Type:    "order.shipped",
		Stream:  "orders",
		Key:     "ORD-001",
		Op:      "update",
		Payload: map[string]any{"order_id": "ORD-001"},
		Headers: map[string]any{"tenant": "acme"},
	})
	fmt.Println(id, err)
	// Output: 0190a5c6-7d2e-7000-8000-000000000001 <nil>
}

// A transaction of database/sql, of whatever driver.
func ExampleSQL() {
	db, done := setUp()
	defer done()
	ctx := context.Background()
	sqlDB := sqlOf(db)
	defer sqlDB.Close()

	tx, err := sqlDB.BeginTx(ctx, nil)
	if err != nil {
		panic(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `insert into orders values ('ORD-001', 149.99)`); err != nil {
		panic(err)
	}
	if _, err := tide.Publish(ctx, tide.SQL(tx), "order_events", tide.Event{Type: "order.created", Payload: 1}); err != nil {
		panic(err)
	}
	fmt.Println(tx.Commit(), len(db.Published("order_events")))
	// Output: <nil> 1
}

// Code that is given a Querier does not know which driver it works with.
func ExampleQuerier() {
	db, done := setUp()
	defer done()
	sqlDB := sqlOf(db)
	defer sqlDB.Close()

	created := func(q tide.Querier, o Order) error {
		_, err := tide.Publish(context.Background(), q, "order_events", tide.Event{Type: "order.created", Payload: o})
		return err
	}
	fmt.Println(created(db.Pool, Order{ID: "ORD-001"}), created(tide.SQL(sqlDB), Order{ID: "ORD-002"}))
	// Output: <nil> <nil>
}

// A *sql.DB, *sql.Conn and *sql.Tx are each one.
func ExampleSQLQuerier() {
	db, done := setUp()
	defer done()
	sqlDB := sqlOf(db)
	defer sqlDB.Close()

	var q tide.SQLQuerier = sqlDB
	_, err := tide.Publish(context.Background(), tide.SQL(q), "order_events", tide.Event{Payload: 1})
	fmt.Println(err)
	// Output: <nil>
}

// Events of one type, their key taken from the payload.
func ExamplePublisher() {
	orders := tide.Publisher[Order]{
		Outbox: "order_events",
		Type:   "order.created",
		Key:    func(o Order) string { return o.ID },
	}
	fmt.Println(orders.Outbox, orders.Type, orders.Key(Order{ID: "ORD-001"}))
	// Output: order_events order.created ORD-001
}

// Any number at once.
func ExamplePublisher_Publish() {
	db, done := setUp()
	defer done()
	orders := tide.Publisher[Order]{Outbox: "order_events", Type: "order.created", Key: func(o Order) string { return o.ID }}

	ids, err := orders.Publish(context.Background(), db.Pool, Order{ID: "ORD-001"}, Order{ID: "ORD-002"})
	fmt.Println(len(ids), err)
	for _, e := range db.Published("order_events") {
		fmt.Println(e.Type, e.Key)
	}
	// Output:
	// 2 <nil>
	// order.created ORD-001
	// order.created ORD-002
}

// What a propagator writes into a map goes along as headers.
func ExampleHeadersFrom() {
	db, done := setUp()
	defer done()

	// With OpenTelemetry:
	//	carrier := propagation.MapCarrier{}
	//	otel.GetTextMapPropagator().Inject(ctx, carrier)
	//	return carrier
	inject := func(context.Context) map[string]string {
		return map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	}
	_, err := tide.Publish(context.Background(), db.Pool, "order_events", tide.Event{Payload: 1}, tide.HeadersFrom(inject))
	fmt.Println(err, db.Published("order_events")[0].Headers["traceparent"])
	// Output: <nil> 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
}

// Options are given with each call, or once to a Publisher.
func ExampleOption() {
	tenant := tide.HeadersFrom(func(context.Context) map[string]string { return map[string]string{"tenant": "acme"} })
	orders := tide.Publisher[Order]{Outbox: "order_events", Options: []tide.Option{tenant}}
	fmt.Println(len(orders.Options))
	// Output: 1
}

// A trace that no library keeps: the header of an HTTP request, say.
func ExampleWithTrace() {
	db, done := setUp()
	defer done()

	ctx := tide.WithTrace(context.Background(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "")
	_, err := tide.Publish(ctx, db.Pool, "order_events", tide.Event{Payload: 1})
	fmt.Println(err, db.Published("order_events")[0].Headers["traceparent"])
	// Output: <nil> 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
}

func ExampleTrace() {
	ctx := tide.WithTrace(context.Background(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=1")
	fmt.Println(tide.Trace(ctx))
	// Output: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 vendor=1
}

// The JSON of CloudEvents' structured mode.
func ExampleCloudEvent() {
	text, err := json.Marshal(tide.CloudEvent{
		ID: "1", Source: "https://example.com/orders", Type: "order.created", Subject: "ORD-001",
		Data: json.RawMessage(`{"total": 149.99}`),
	})
	fmt.Println(string(text), err)
	// Output: {"data":{"total":149.99},"id":"1","source":"https://example.com/orders","specversion":"1.0","subject":"ORD-001","type":"order.created"} <nil>
}

// A CloudEvent that came by HTTP is published.
func ExampleCloudEvent_Event() {
	db, done := setUp()
	defer done()

	var received tide.CloudEvent
	body := `{"specversion": "1.0", "id": "1", "source": "https://example.com/orders", "type": "order.created", "subject": "ORD-001", "data": {"total": 149.99}}`
	if err := json.Unmarshal([]byte(body), &received); err != nil {
		panic(err)
	}
	e, err := received.Event()
	if err != nil {
		panic(err)
	}
	_, err = tide.Publish(context.Background(), db.Pool, "order_events", e)
	fmt.Println(e.Type, e.Key, err)
	// Output: order.created ORD-001 <nil>
}
