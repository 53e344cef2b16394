package yardstick

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	//go:embed queries/reverse_insert.sql
	reverseInsertSQL string
	//go:embed queries/reverse_setup.sql
	reverseSetupSQL string
)

// fetchWait bounds the wait for a batch to fill up.
const fetchWait = time.Second

// PrepareReverse makes an empty inbox as one writes it by hand.
func PrepareReverse(ctx context.Context, db *pgx.Conn) error {
	_, err := db.Exec(ctx, reverseSetupSQL, pgx.QueryExecModeSimpleProtocol)
	return err
}

// Reverse fetches messages of a stream, inserts each batch by one statement
// and acknowledges its last message, until it has the number that is wanted.
func Reverse(ctx context.Context, db *pgx.Conn, stream jetstream.Stream, durable string, wanted int) error {
	consumer, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckAllPolicy, MaxAckPending: 4 * page,
	})
	if err != nil {
		return fmt.Errorf("create the consumer: %w", err)
	}
	for moved := 0; moved < wanted; {
		batch, err := consumer.Fetch(min(page, wanted-moved), jetstream.FetchMaxWait(fetchWait))
		if err != nil {
			return fetchError(err)
		}
		var c columns
		var last jetstream.Msg
		for m := range batch.Messages() {
			c.add(m.Headers(), m.Data())
			last = m
		}
		if err := batch.Error(); err != nil {
			return fetchError(err)
		}
		if last == nil {
			continue
		}
		if _, err := db.Exec(ctx, reverseInsertSQL, c.eventIDs, c.sources, c.streams, c.keys, c.ops, c.types, c.payloads); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if err := last.Ack(); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
		moved += len(c.eventIDs)
	}
	return nil
}

func fetchError(err error) error { return fmt.Errorf("fetch: %w", err) }

// columns are a batch, column by column.
type columns struct{ eventIDs, sources, streams, keys, ops, types, payloads []string }

func (c *columns) add(h natsgo.Header, body []byte) {
	c.eventIDs = append(c.eventIDs, first(h, "ce-id"))
	c.sources = append(c.sources, first(h, "ce-source"))
	c.streams = append(c.streams, "orders")
	c.keys = append(c.keys, first(h, "ce-subject"))
	c.ops = append(c.ops, "insert")
	c.types = append(c.types, first(h, "ce-type"))
	c.payloads = append(c.payloads, string(body))
}

// first does without the search for other spellings that Header.Get makes.
func first(h natsgo.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
