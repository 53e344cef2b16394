package nats

import (
	"context"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// backlogInterval is how often the broker is asked how much the consumer has
// left while nothing is taken from it.
const backlogInterval = 5 * time.Second

// backlog is what the consumer has left beside what the session holds.
type backlog struct {
	// behind is how many messages come after the last that was taken.
	behind uint64
	// asked is the delivery number that the consumer had got to when it was asked.
	asked uint64
	// changes counts what would make an answer of the broker's stale.
	changes uint64
	// acknowledging counts what the broker is being told of: it may have counted
	// messages as acknowledged that the session still holds. After a failure the
	// session ends, and nobody takes it back.
	acknowledging int
	// waiting says that the session waits for the broker, to send more.
	waiting bool
}

// begin takes in what the consumer says before anything is fetched.
func (b *backlog) begin(info *jetstream.ConsumerInfo) {
	b.behind = info.NumPending + uint64(max(0, info.NumAckPending))
}

// took takes in what a message says that was taken. Those that were delivered
// before the consumer was asked last, or are delivered again, say less than is
// known: they have the count of their own moment, or only of what is new.
func (b *backlog) took(meta *natsgo.MsgMetadata) {
	b.changes++
	if meta.NumDelivered > 1 || meta.Sequence.Consumer <= b.asked {
		b.behind -= min(b.behind, 1)
		return
	}
	b.behind = meta.NumPending
}

// answered takes in what the consumer says while the session holds so much.
func (b *backlog) answered(info *jetstream.ConsumerInfo, held int) {
	b.behind = info.NumPending + uint64(max(0, info.NumAckPending-held))
	b.asked = info.Delivered.Consumer
}

// Backlog says how many messages the consumer has left that are not
// acknowledged. After Close it is what was so then.
func (s *Source) Backlog() (messages int64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		s.left, s.leftKnown = s.session.left(), true
	}
	return s.left, s.leftKnown
}

func (s *session) left() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(s.backlog.behind) + int64(len(s.unacked))
}

// measureBacklog asks the broker when the inbox takes nothing, so that no
// message comes which would tell. While the session waits for the broker there
// is nothing left, and it hears of each new message by itself.
func (s *session) measureBacklog(every time.Duration) {
	defer close(s.measured)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for before := uint64(0); ; {
		select {
		case <-s.stopping:
			return
		case <-s.conn.ended:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		changes := s.backlog.changes
		idle := s.backlog.waiting && s.backlog.behind == 0
		moving := changes != before || s.backlog.acknowledging > 0
		s.mu.Unlock()
		if !moving && !idle {
			s.measureOnce(changes)
		}
		before = changes
	}
}

// measureOnce takes the answer only if nothing was taken or acknowledged
// meanwhile; else it could count a message twice, or not at all. A broker that
// does not answer is somebody else's to find.
func (s *session) measureOnce(changes uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	info, err := s.conn.consumerInfo(ctx, s.consumer)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.backlog.changes == changes {
		s.backlog.answered(info, len(s.unacked))
	}
}

// setWaiting notes whether the session waits for the broker.
func (s *session) setWaiting(waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backlog.waiting = waits
}
