// Package kafka reads and writes Kafka records as CloudEvents with the
// CloudEvents SDK and its binding for Kafka, and nothing of ours: a second
// opinion for tests. It refuses to be part of the product.
package kafka

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
	protocol "github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
)

// Header is a header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Read returns the event that a record's value and headers carry.
func Read(ctx context.Context, value []byte, headers []Header) (*event.Event, error) {
	record := &sarama.ConsumerMessage{Value: value}
	for _, h := range headers {
		record.Headers = append(record.Headers, &sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
	}
	e, err := binding.ToEvent(ctx, protocol.NewMessageFromConsumerMessage(record))
	if err != nil {
		return nil, fmt.Errorf("read a Kafka record as a CloudEvent: %w", err)
	}
	return e, nil
}

// Write returns the value and the headers of a record that carries the event.
func Write(ctx context.Context, e *event.Event, structured bool) ([]byte, []Header, error) {
	ctx = binding.WithForceBinary(ctx)
	if structured {
		ctx = binding.WithForceStructured(ctx)
	}
	var record sarama.ProducerMessage
	if err := protocol.WriteProducerMessage(ctx, binding.ToMessage(e), &record); err != nil {
		return nil, nil, fmt.Errorf("write a CloudEvent as a Kafka record: %w", err)
	}
	var value []byte
	if record.Value != nil {
		var err error
		if value, err = record.Value.Encode(); err != nil {
			return nil, nil, fmt.Errorf("encode the value of a Kafka record: %w", err)
		}
	}
	headers := make([]Header, len(record.Headers))
	for i, h := range record.Headers {
		headers[i] = Header{Key: string(h.Key), Value: h.Value}
	}
	return value, headers, nil
}
