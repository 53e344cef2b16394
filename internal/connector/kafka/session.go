package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// revokeTimeout is how long a partition that is to go to another member
	// waits for its messages to be inserted.
	revokeTimeout = 15 * time.Second
	// commitAttempts is how often offsets are committed again while the group
	// is being balanced.
	commitAttempts = 8
)

// claim is one partition from its assignment to its revocation.
type claim struct {
	// inFlight counts deliveries that hold messages of it and were neither
	// acknowledged nor given up.
	inFlight int
	// gone says that it is another member's, or may be.
	gone bool
	extent
}

// session reads from one Open to the next Close.
//
// A partition may be taken from the member while messages of it are being
// inserted. Then:
//
//  1. Messages 50 to 99 of partition 0 are fetched; the inbox's transaction is
//     under way. The group is balanced, and 0 is to go to another member.
//  2. The client calls revoked, which waits. The transaction commits, the engine
//     acknowledges, offset 100 is committed, and revoked returns.
//  3. The client lets go of 0. The other member starts at 100.
//
// If the inbox takes longer than revokeTimeout, or fails, revoked returns
// without an acknowledgement, and the claim is gone: nothing of it is committed
// any more. The other member starts at 50. Committing 100 then would be wrong
// where the transaction did not happen, and where it did could take back what
// the other member has committed meanwhile. What both insert, an inbox that they
// share knows by its event id.
type session struct {
	conn  *connection
	group string
	ids   map[string]kadm.TopicID
	log   *slog.Logger
	// patience is how long revoked waits.
	patience time.Duration
	// troubled is since when the coordinator could not be had; fetch's own.
	troubled time.Time

	closing sync.Once
	ended   chan struct{}

	waiting  atomic.Bool   // for the brokers, to send more
	fetches  atomic.Int64  // that brought something
	measure  chan struct{} // asks for the backlog
	measured chan struct{} // closed when nobody measures it any more

	// origin is empty when the database remembers nothing of the source, and
	// signature what is written beside the offsets then.
	origin, signature string
	baseline          *message.Mark // to be saved before anything else; nil when it is

	mu      sync.Mutex
	taken   taken
	failed  error // of assigned: it ends the session
	joined  bool  // the claims are those that the group gave out
	claims  map[place]*claim
	changed chan struct{} // closed and made anew when fewer are in flight
}

func newSession(log *slog.Logger, patience time.Duration) *session {
	return &session{log: log, patience: patience, ids: map[string]kadm.TopicID{}, ended: make(chan struct{}),
		measure: make(chan struct{}, 1), measured: make(chan struct{}),
		claims: map[place]*claim{}, changed: make(chan struct{})}
}

// held is what a delivery has of one partition.
type held struct {
	at     place
	claim  *claim
	offset kgo.EpochOffset // behind its last message
}

func (s *session) fetch(ctx context.Context, limit int) (message.Delivery, error) {
	if first := s.baseline; first != nil {
		s.baseline = nil
		return message.Delivery{Mark: *first}, nil
	}
	fault.At(fault.ReverseBeforeFetch)
	for {
		fetches, err := s.poll(ctx, limit)
		if err != nil {
			return message.Delivery{}, err
		}
		if fetches.NumRecords() == 0 {
			continue
		}
		delivered := s.deliver(fetches)
		if len(delivered.Envelopes) == 0 {
			continue // markers of transactions
		}
		fault.At(fault.ReverseAfterFetch)
		return delivered, nil
	}
}

// poll asks for records, and when there are none for a while whether the
// cluster is still there.
func (s *session) poll(ctx context.Context, limit int) (kgo.Fetches, error) {
	bounded, cancel := context.WithTimeout(ctx, watchInterval)
	defer cancel()
	s.waiting.Store(true)
	fetches := s.conn.client.PollRecords(bounded, limit)
	s.waiting.Store(false)
	if err := s.problem(ctx, fetches); err != nil {
		s.conn.client.AllowRebalance()
		return nil, err
	}
	if fetches.NumRecords() > 0 {
		s.troubled = time.Time{}
		return fetches, nil
	}
	s.conn.client.AllowRebalance()
	if bounded.Err() == nil {
		return nil, nil
	}
	return nil, s.conn.ping(ctx)
}

// problem is what ends the session of what a poll brought.
func (s *session) problem(ctx context.Context, fetches kgo.Fetches) error {
	select {
	case <-s.ended:
		return errClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	problem := s.failed
	s.mu.Unlock()
	fetches.EachError(func(topic string, partition int32, err error) {
		var loss *kgo.ErrDataLoss
		var group *kgo.ErrGroupSession
		switch {
		case problem != nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		case errors.As(err, &loss):
			s.log.Warn("the brokers lost messages that had been read; reading goes on where they end", "topic", topic, "partition", partition, "error", err)
		case errors.As(err, &group) && s.passing(group.Err):
		case errors.As(err, &group):
			problem = s.conn.explain("read as a member of group "+s.group, "group "+s.group, group.Err)
		default:
			problem = s.conn.explain(fmt.Sprintf("read topic %s", topic), place{topic, partition}.String(), err)
		}
	})
	return problem
}

// passing tells whether the group's coordinator is only starting or moving: the
// client joins again by itself, for a while.
func (s *session) passing(err error) bool {
	if !coordinatorMoves(err) {
		return false
	}
	if s.troubled.IsZero() {
		s.troubled = time.Now()
	}
	return time.Since(s.troubled) < 2*requestTimeout
}

// deliver takes records in before the group may be balanced again.
func (s *session) deliver(fetches kgo.Fetches) message.Delivery {
	envelopes := make([]message.Envelope, 0, fetches.NumRecords())
	var holds []held
	s.fetches.Add(1)
	s.mu.Lock()
	fetches.EachTopic(func(t kgo.FetchTopic) {
		id := kadm.TopicID(t.TopicID)
		if id == (kadm.TopicID{}) {
			id = s.ids[t.Topic] // an old broker's answers do not have it
		}
		t.EachPartition(func(p kgo.FetchPartition) {
			if len(p.Records) == 0 {
				return
			}
			at, c := place{t.Topic, p.Partition}, s.claim(place{t.Topic, p.Partition})
			c.saw(&p)
			var last *kgo.Record
			for _, r := range p.Records {
				if !r.Attrs.IsControl() {
					envelopes, last = append(envelopes, toEnvelope(r, id)), r
				}
			}
			if last == nil {
				return
			}
			holds = append(holds, c.hold(at, last))
			if s.origin != "" {
				s.ids[t.Topic] = id
				s.taken.set(id, p.Partition, last.Offset+1)
			}
		})
	})
	var mark message.Mark
	if s.origin != "" {
		mark = s.taken.mark(s.origin)
	}
	s.mu.Unlock()
	s.conn.client.AllowRebalance()
	return message.Delivery{
		Envelopes:   envelopes,
		Mark:        mark,
		Acknowledge: func(ctx context.Context) error { return s.acknowledge(ctx, holds) },
	}
}

// claim returns that of a partition. The lock is held.
func (s *session) claim(at place) *claim {
	c := s.claims[at]
	if c == nil {
		c = &claim{extent: unknownExtent()}
		s.claims[at] = c
	}
	return c
}

// hold notes that messages of a partition are in flight. The lock is held.
func (c *claim) hold(at place, last *kgo.Record) held {
	c.inFlight++
	return held{at: at, claim: c, offset: kgo.EpochOffset{Epoch: last.LeaderEpoch, Offset: last.Offset + 1}}
}

// acknowledge commits offsets. What does not get there comes again and is known.
func (s *session) acknowledge(ctx context.Context, holds []held) error {
	fault.At(fault.ReverseBeforeAcknowledge)
	err := s.commit(ctx, holds)
	s.mu.Lock()
	for i := range holds {
		holds[i].claim.inFlight--
		if err == nil {
			holds[i].claim.done = max(holds[i].claim.done, holds[i].offset.Offset)
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if err == nil {
		fault.At(fault.ReverseAfterAcknowledge)
	}
	return err
}

func (s *session) commit(ctx context.Context, holds []held) error {
	asked, cancel := s.conn.request(ctx)
	defer cancel()
	for attempt := 0; ; attempt++ {
		offsets := s.standing(holds)
		if len(offsets) == 0 {
			return nil
		}
		err := s.commitOnce(asked, offsets)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, kerr.RebalanceInProgress) && attempt < commitAttempts:
			if err := pause(asked, backoff(attempt)); err != nil {
				return err
			}
			continue
		}
		return s.conn.explain("commit offsets", "group "+s.group, answer(asked, err))
	}
}

// standing are the offsets of what is still this member's.
func (s *session) standing(holds []held) map[string]map[int32]kgo.EpochOffset {
	s.mu.Lock()
	defer s.mu.Unlock()
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for i := range holds {
		h := &holds[i]
		if h.claim.gone {
			continue
		}
		if offsets[h.at.topic] == nil {
			offsets[h.at.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[h.at.topic][h.at.partition] = h.offset
	}
	return offsets
}

func (s *session) commitOnce(ctx context.Context, offsets map[string]map[int32]kgo.EpochOffset) error {
	var failure error
	if s.origin != "" {
		ctx = kgo.PreCommitFnContext(ctx, s.sign)
	}
	s.conn.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse, err error) {
		if failure = err; err != nil {
			return
		}
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				if err := kerr.ErrorForCode(r.Topics[i].Partitions[j].ErrorCode); err != nil {
					failure = err
					return
				}
			}
		}
	})
	return failure
}

// sign writes beside each offset whose it is.
func (s *session) sign(r *kmsg.OffsetCommitRequest) error {
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			r.Topics[i].Partitions[j].Metadata = &s.signature
		}
	}
	return nil
}

func (s *session) close() {
	s.closing.Do(func() {
		fault.At(fault.ReverseBeforeHandBack)
		close(s.ended)
		s.conn.close()
		<-s.measured
	})
}
