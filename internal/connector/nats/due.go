package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// dueBytes bounds what takeDue holds in memory.
const dueBytes = 64 << 20

// takeDue fetches at once what the broker is to deliver again, and sorts it
// by stream sequence: the broker's queue of redeliveries has another order.
//
// Without it: a relay dies with 1 to 5 delivered and 6 to 20 on their way; the
// broker finds nobody to give 6 to 20 and queues them again at once, and 1 to 5
// behind them when ack_wait is over.
func (c *connection) takeDue(ctx context.Context, info *jetstream.ConsumerInfo) ([]*natsgo.Msg, error) {
	ctx, cancel := c.request(ctx)
	defer cancel()
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		return nil, c.over(fmt.Errorf("subscribe for what is due again: %w", err))
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, c.over(fmt.Errorf("subscribe for what is due again: %w", err))
	}
	var due []*natsgo.Msg
	for size := 0; len(due) < info.NumAckPending && size < dueBytes; {
		batch, err := c.pullNow(ctx, sub, info, info.NumAckPending-len(due))
		if err != nil {
			return nil, err
		}
		if len(batch) == 0 {
			break // others hold the rest, or wait for it already
		}
		for _, msg := range batch {
			size += msg.Size()
		}
		due = append(due, batch...)
	}
	return due, sortByStream(due)
}

// pullNow asks for what is there, without waiting.
func (c *connection) pullNow(ctx context.Context, sub *natsgo.Subscription, info *jetstream.ConsumerInfo, limit int) ([]*natsgo.Msg, error) {
	request := pullRequest{Batch: limit, NoWait: true, MaxBytes: info.Config.MaxRequestMaxBytes}
	if most := info.Config.MaxRequestBatch; most > 0 {
		request.Batch = min(limit, most)
	}
	text, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("write a pull request: %w", err)
	}
	if err := c.nc.PublishRequest(pullSubject(info), sub.Subject, text); err != nil {
		return nil, c.over(fmt.Errorf("pull what is due again: %w", err))
	}
	var batch []*natsgo.Msg
	for len(batch) < request.Batch {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("pull what is due again: %w", c.answer(ctx, err))
		}
		if msg.Reply == "" { // a status: there is no more
			break
		}
		batch = append(batch, msg)
	}
	return batch, nil
}

func sortByStream(messages []*natsgo.Msg) error {
	sequences := make(map[*natsgo.Msg]uint64, len(messages))
	for _, msg := range messages {
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read a message's metadata: %w", err)
		}
		sequences[msg] = meta.Sequence.Stream
	}
	slices.SortFunc(messages, func(a, b *natsgo.Msg) int { return cmp.Compare(sequences[a], sequences[b]) })
	return nil
}
