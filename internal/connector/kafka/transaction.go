package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
)

const (
	commitTimeout = 10 * time.Second
	abortTimeout  = 2 * time.Second
)

// storeTransaction stores a wave in one Kafka transaction: readers with
// isolation.level=read_committed see all of it or nothing. A wave has whole
// database transactions; several that have queued up share one, which costs the
// same whatever it holds.
//
// A commit whose answer does not come may have happened. The session ends, the
// next one gets its producer id under the same transactional id, which the
// broker grants only after the earlier transaction is committed or aborted for
// good, and the events are sent again: with the same ids, as after any crash
// between the broker's acknowledgement and the saved position.
func (p *producer) storeTransaction(ctx context.Context, w *wave) error {
	if err := p.conn.client.BeginTransaction(); err != nil {
		return p.conn.explain("begin a transaction", "transactional id "+p.settings.id, err)
	}
	if err := p.produce(ctx, w); err != nil {
		p.abort(ctx)
		return err
	}
	// What was handed over before the lease ended must not be committed after:
	// the next owner may have sent the events already.
	if err := p.mayStore(); err != nil {
		p.abort(ctx)
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, commitTimeout,
		delivery.RetryAfter(errors.New("the brokers at "+p.conn.brokers+" did not answer the commit of a transaction within "+commitTimeout.String()), 0))
	defer cancel()
	err := p.awaitPartitions(bounded, w)
	if err == nil {
		err = p.conn.client.EndTransaction(bounded, kgo.TryCommit)
	}
	if err == nil {
		fault.At(fault.ForwardAfterSend)
		return nil
	}
	if errors.Is(err, kerr.OperationNotAttempted) || errors.Is(err, kerr.TransactionAbortable) {
		p.abort(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.conn.explain("commit a transaction", "transactional id "+p.settings.id, answer(bounded, err))
}

// awaitPartitions waits until the client itself knows the partitions that it
// has just stored events in.
//
// Without it: the client learns of a topic while it is flushing. It hands the
// waiting events to their partitions, and publishes its new view of the topic
// after that. The broker acknowledges in between; the end of the transaction
// looks through the old view, finds no partition that is part of it, and takes
// it for one in which nothing was stored: it aborts, and reports success.
func (p *producer) awaitPartitions(ctx context.Context, w *wave) error {
	for at := range w.counts {
		for attempt := 0; ; attempt++ {
			leader, epoch, err := p.conn.client.PartitionLeader(at.topic, at.partition)
			if leader >= 0 || epoch >= 0 || err != nil {
				break
			}
			if err := pause(ctx, backoff(attempt)/100); err != nil {
				return fmt.Errorf("wait until the client knows %s: %w", at, err)
			}
		}
	}
	return nil
}

// abort ends a transaction without its events. If that fails too, the next
// owner's producer id does it, or the broker after transaction_timeout.
func (p *producer) abort(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if p.conn.client.AbortBufferedRecords(bounded) == nil {
		_ = p.conn.client.EndTransaction(bounded, kgo.TryAbort) // see above
	}
}
