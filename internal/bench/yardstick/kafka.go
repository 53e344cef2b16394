package yardstick

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ToKafka does what Forward does with a topic for the subject: it produces
// asynchronously and idempotently, to all replicas that are in sync. It calls
// begun once the first page is stored, when it has long been connected.
func ToKafka(ctx context.Context, db *pgx.Conn, brokers []string, topic string, headers Headers, begun func()) (int, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(2*page))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	last, moved := int64(0), 0
	for {
		events, err := readPage(ctx, db, last)
		if err != nil || len(events) == 0 {
			return moved, err
		}
		var failed error // promises are called one after the other
		for i := range events {
			client.Produce(ctx, recordOf(&events[i], headers), func(_ *kgo.Record, err error) { failed = errors.Join(failed, err) })
		}
		// It waits for all promises, and for no more records to send along.
		if err := errors.Join(client.Flush(ctx), failed); err != nil {
			return moved, fmt.Errorf("produce: %w", err)
		}
		if moved == 0 {
			begun()
		}
		last = events[len(events)-1].id
		moved += len(events)
		if _, err := db.Exec(ctx, saveSQL, last); err != nil {
			return moved, fmt.Errorf("save the position: %w", err)
		}
	}
}

func recordOf(e *event, headers Headers) *kgo.Record {
	r := &kgo.Record{Key: []byte(e.key), Value: e.payload}
	if headers == IDAlone {
		r.Headers = []kgo.RecordHeader{{Key: "ce_id", Value: []byte(e.eventID)}}
		return r
	}
	r.Headers = []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte(e.eventID)},
		{Key: "ce_source", Value: []byte("/00000000-0000-4000-8000-000000000000/orders")},
		{Key: "ce_type", Value: []byte("orders.insert")},
		{Key: "ce_time", Value: []byte(e.published.UTC().Format(time.RFC3339Nano))},
		{Key: "ce_subject", Value: []byte(e.key)},
	}
	return r
}

// FromKafka polls a topic as a group, inserts each batch by one statement and
// commits its offsets, until it has the number that is wanted. It calls begun
// when it commits those of the first batch, and has long joined the group.
func FromKafka(ctx context.Context, db *pgx.Conn, brokers []string, topic, group string, wanted int, begun func()) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	defer client.Close()
	for moved := 0; moved < wanted; {
		fetches := client.PollRecords(ctx, page)
		if err := fetches.Err(); err != nil {
			return fetchError(err)
		}
		var c columns
		fetches.EachRecord(c.addRecord)
		if len(c.eventIDs) == 0 {
			continue
		}
		if _, err := db.Exec(ctx, reverseInsertSQL, c.eventIDs, c.sources, c.streams, c.keys, c.ops, c.types, c.payloads); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if moved == 0 {
			begun()
		}
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			return fmt.Errorf("commit the offsets: %w", err)
		}
		moved += len(c.eventIDs)
	}
	return nil
}

func (c *columns) addRecord(r *kgo.Record) {
	var id, source, kind string
	for _, h := range r.Headers {
		switch h.Key {
		case "ce_id":
			id = string(h.Value)
		case "ce_source":
			source = string(h.Value)
		case "ce_type":
			kind = string(h.Value)
		}
	}
	c.eventIDs = append(c.eventIDs, id)
	c.sources = append(c.sources, source)
	c.streams = append(c.streams, "orders")
	c.keys = append(c.keys, string(r.Key))
	c.ops = append(c.ops, "insert")
	c.types = append(c.types, kind)
	c.payloads = append(c.payloads, string(r.Value))
}
