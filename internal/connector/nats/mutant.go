package nats

import (
	"context"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/fault"
)

// What is here is wrong on purpose and not part of any binary without the tag
// tide_faults.

// clientRetries is how often the client may send an event again by itself.
func clientRetries() int {
	if fault.Mutant(fault.ClientResends) {
		return 3
	}
	return 0
}

// resend publishes once more what was under way when the connection was lost,
// as the client's users do when it says so.
func (r *receipt) resend(ctx context.Context, lost jetstream.PubAckFuture, timer *time.Timer, reached []streamMark) error {
	again := natsgo.NewMsg(lost.Msg().Subject)
	again.Data, again.Header = lost.Msg().Data, lost.Msg().Header
	ack, err := r.conn.js.PublishMsgAsync(again, jetstream.WithRetryAttempts(clientRetries()))
	if err != nil {
		return r.conn.publishFailed(again.Subject, err)
	}
	return r.waitFor(ctx, ack, timer, reached)
}

// resending lets the client connect again and send what it has buffered.
func resending(ctx context.Context, dial *dialer, options []natsgo.Option) []natsgo.Option {
	dial.ctx = context.WithoutCancel(ctx)
	return append(options,
		func(o *natsgo.Options) error { o.AllowReconnect = true; return nil },
		natsgo.MaxReconnects(-1),
		natsgo.ReconnectWait(50*time.Millisecond),
		natsgo.ReconnectBufSize(natsgo.DefaultReconnectBufSize),
	)
}
