package nats

import (
	"context"
	"time"

	natsgo "github.com/nats-io/nats.go"

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
