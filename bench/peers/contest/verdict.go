package contest

import (
	"context"
	"fmt"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/torture/check"
)

// judge compares what arrived, in its order, with what was committed: the
// torture's own comparison, in which nothing may come twice.
func judge(committed []check.Event, arrivals []check.Arrival) check.Verdict {
	return check.NewLedger(committed).Judge(check.Hop{Name: "stream", Arrivals: arrivals})
}

// read reads a stream from its begin to its present end.
func read(ctx context.Context, stream jetstream.Stream, idOf func(natsgo.Header) string) ([]check.Arrival, error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	if info.State.Msgs == 0 {
		return nil, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, fmt.Errorf("read the stream: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, fmt.Errorf("read the stream: %w", err)
	}
	defer messages.Stop()
	arrivals := make([]check.Arrival, 0, info.State.Msgs)
	for {
		m, err := messages.Next()
		if err != nil {
			return nil, fmt.Errorf("read the stream: %w", err)
		}
		about, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read the stream: %w", err)
		}
		arrivals = append(arrivals, check.Arrival{ID: idOf(m.Headers()), Place: int64(about.Sequence.Stream), At: about.Timestamp})
		if about.Sequence.Stream >= info.State.LastSeq {
			return arrivals, nil
		}
	}
}
