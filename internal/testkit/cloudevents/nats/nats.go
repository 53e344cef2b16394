// Package nats reads and writes NATS messages as CloudEvents with the
// CloudEvents SDK and its binding for NATS, and nothing of ours: a second
// opinion for tests. It refuses to be part of the product.
package nats

import (
	"bytes"
	"context"
	"fmt"

	protocol "github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	natsgo "github.com/nats-io/nats.go"
)

// Read returns the event that a message carries.
func Read(ctx context.Context, m *natsgo.Msg) (*event.Event, error) {
	e, err := binding.ToEvent(ctx, protocol.NewMessage(m))
	if err != nil {
		return nil, fmt.Errorf("read a NATS message as a CloudEvent: %w", err)
	}
	return e, nil
}

// Write makes a message of an event.
func Write(ctx context.Context, subject string, e *event.Event, structured bool) (*natsgo.Msg, error) {
	ctx = binding.WithForceBinary(ctx)
	if structured {
		ctx = binding.WithForceStructured(ctx)
	}
	var body bytes.Buffer
	header, err := protocol.WriteMsg(ctx, binding.ToMessage(e), &body)
	if err != nil {
		return nil, fmt.Errorf("write a CloudEvent as a NATS message: %w", err)
	}
	return &natsgo.Msg{Subject: subject, Header: header, Data: body.Bytes()}, nil
}
