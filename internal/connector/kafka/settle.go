package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// settle shows the readers of committed events what a commit had acknowledged
// and the brokers forgot to show. It commits a transaction without events in
// the partitions where that may be so: the mark that it leaves behind ends what
// this transactional id has open there.
//
// Without it:
//
//  1. The coordinator stores that the transaction is to be committed, and
//     acknowledges. Marks in the partitions are to follow.
//  2. All brokers are killed, or the one is that leads a partition alone.
//  3. The coordinator starts again and finds the partition without a leader.
//     Kafka 4.4 takes it for a deleted one, writes no mark there, and stores
//     that the transaction is complete.
//  4. The events are there, no reader with read_committed gets to them or to
//     what is behind them, and no timeout ends that. The next transaction in
//     that partition does: its commit shows them, its abort hides them for good.
func (s *Sink) settle(ctx context.Context, p *producer, held []topicMark) error {
	hidden, err := p.hidden(ctx, held)
	if err != nil || len(hidden) == 0 {
		return err
	}
	id, epoch, err := p.conn.client.ProducerID(ctx)
	if err != nil {
		return p.conn.explain("get a producer id", "transactional id "+s.settings.id, answer(ctx, err))
	}
	// Since 4.0 brokers give the producer another epoch with each commit, which
	// our client would not hear of. They do not at the request of an older one.
	older, err := connect(ctx, &s.address, "pg_tide sink "+s.deps.Pipeline, kgo.MaxVersions(kversion.V3_7_0()))
	if err != nil {
		return err
	}
	defer older.close()
	if err := commitEmpty(ctx, older.client, s.settings.id, id, epoch, hidden); err != nil {
		return p.conn.explain("commit again what readers do not see", "transactional id "+s.settings.id, answer(ctx, err))
	}
	s.log.Warn("acknowledged events were not shown to readers of committed events; they were committed again", "topics", len(hidden))
	return nil
}

// hidden are the partitions whose acknowledged events are not all shown: the
// transaction of this id there has no end, or that of another producer.
func (p *producer) hidden(ctx context.Context, held []topicMark) ([]kmsg.AddPartitionsToTxnRequestTopic, error) {
	names := make([]string, len(held))
	for i := range held {
		names[i] = held[i].Topic
	}
	if len(names) == 0 {
		return nil, nil
	}
	shown, err := p.conn.admin.ListCommittedOffsets(ctx, names...)
	if err != nil {
		return nil, p.conn.explain("look what readers of committed events see", "the topics", answer(ctx, err))
	}
	var all []kmsg.AddPartitionsToTxnRequestTopic
	for i := range held {
		in := kmsg.NewAddPartitionsToTxnRequestTopic()
		in.Topic = held[i].Topic
		for partition, offset := range held[i].Offsets {
			at := place{in.Topic, partition}
			end, found := shown.Lookup(at.topic, partition)
			switch {
			case !found:
				return nil, fmt.Errorf("the brokers do not say how far %s is committed", at)
			case end.Err != nil:
				return nil, p.conn.explain("look how far a partition is committed", at.String(), end.Err)
			case end.Offset <= offset:
				in.Partitions = append(in.Partitions, partition)
			}
		}
		if len(in.Partitions) > 0 {
			all = append(all, in)
		}
	}
	return all, nil
}

// commitEmpty adds partitions to a transaction, and commits it.
func commitEmpty(ctx context.Context, client *kgo.Client, transactional string, id int64, epoch int16, in []kmsg.AddPartitionsToTxnRequestTopic) error {
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Topics = transactional, id, epoch, in
	added, err := add.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	var refused error
	for i := range added.Topics {
		for j := range added.Topics[i].Partitions {
			refused = errors.Join(refused, kerr.ErrorForCode(added.Topics[i].Partitions[j].ErrorCode))
		}
	}
	if refused != nil {
		return refused
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = transactional, id, epoch, true
	ended, err := end.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(ended.ErrorCode)
}
