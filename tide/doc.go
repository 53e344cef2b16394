// Package tide publishes events to a pg_tide outbox in the caller's own
// transaction, and works the messages of an inbox, each once in effect.
//
// # Publishing
//
// An event is a row that is written by the transaction of the business change,
// so it exists if and only if that transaction committed:
//
//	tx, err := pool.Begin(ctx)
//	…
//	_, err = tx.Exec(ctx, "insert into orders …")
//	_, err = tide.Publish(ctx, tx, "order_events", tide.Event{Type: "order.created", Key: "7", Payload: order})
//	err = tx.Commit(ctx)
//
// A pgx.Tx, *pgx.Conn or *pgxpool.Pool is given as it is, a *sql.Tx of any
// driver as tide.SQL(tx). [PublishMany] publishes any number in one round trip,
// and a [Publisher] publishes payloads of one Go type.
//
// # Working
//
// A [Worker] claims messages of one inbox for a time, hands each to the handler
// of its event type, and keeps the lease while the handler works:
//
//	worker, err := tide.NewWorker(pool, tide.WorkerConfig{Inbox: "payment_triggers"})
//	tide.Handle(worker, "order.created", func(ctx context.Context, m *tide.Message, order Order) error {
//		tx, err := tide.Tx(ctx)
//		if err != nil {
//			return err
//		}
//		_, err = tx.Exec(ctx, "insert into payments …")
//		return err
//	})
//	err = worker.Run(ctx)
//
// What the handler writes by [Tx] commits together with the note that the
// message is processed: the effect happens exactly once, whatever crashes when.
// A handler that does not call Tx runs at least once, and what it finished is
// noted for many messages at a time.
//
// The handler's result says what becomes of the message: nil processes it, an
// error tries it again after a pause that grows, [RetryIn] after a pause of the
// handler's choice, [Snooze] puts it off without counting the attempt, and
// [Discard] makes it a dead letter at once. A panic counts as an error.
//
// Of an ordered inbox one message of a key is in work at a time, in the order
// of arrival, however many workers there are.
//
// # What it needs
//
// The schema tide in the database, which `pg-tide install` or `create extension
// pg_tide` brings, and roles: tide_publisher or tide.outbox_grant_publish for
// publishing, tide_consumer for working. All of it works through a connection
// pooler in transaction mode; there a worker asks for messages at intervals
// instead of being notified.
//
// The package depends on pgx and on nothing else. Tests of code that uses it
// find help in the package tidetest.
package tide
