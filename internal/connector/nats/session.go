package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	minPullBytes  = 8 << 20
	// idleCheck is how often a silent consumer is asked why it is silent.
	idleCheck    = 15 * time.Second
	flushTimeout = time.Second
)

// session reads from one Open to the next Close.
type session struct {
	conn     *connection
	consumer jetstream.Consumer
	prefix   string // of coordinates

	messages jetstream.MessagesContext
	queue    chan jetstream.Msg
	stopping chan struct{}
	pumped   chan struct{} // closed when the pump has ended
	cancel   context.CancelFunc

	mu      sync.Mutex
	next    uint64 // delivery number expected next; 0: not checked
	unacked map[uint64]jetstream.Msg
}

func newSession(conn *connection, stream *jetstream.StreamInfo, consumer jetstream.Consumer, next uint64) *session {
	// A stream that is deleted and made again numbers from 1 once more; its
	// time of creation keeps a coordinate from naming two messages.
	return &session{
		conn: conn, consumer: consumer, next: next,
		prefix:   "nats:" + stream.Config.Name + ":" + strconv.FormatInt(stream.Created.UnixNano(), 36) + ":",
		stopping: make(chan struct{}),
		unacked:  map[uint64]jetstream.Msg{},
	}
}

// start begins to pull ahead, at most two batches.
func (s *session) start(ctx context.Context, limit int) error {
	cfg := &s.consumer.CachedInfo().Config
	limit = max(limit, 1)
	for _, cap := range []int{cfg.MaxAckPending, cfg.MaxRequestBatch} {
		if cap > 0 {
			limit = min(limit, cap)
		}
	}
	expiry := pullExpiry
	if cfg.MaxRequestExpires > 0 {
		expiry = min(expiry, cfg.MaxRequestExpires)
	}
	bytes := max(minPullBytes, 4*int(s.conn.nc.MaxPayload()))
	if cfg.MaxRequestMaxBytes > 0 {
		bytes = min(bytes, cfg.MaxRequestMaxBytes)
	}
	messages, err := s.consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(limit, bytes),
		jetstream.PullExpiry(expiry), jetstream.PullHeartbeat(min(pullHeartbeat, expiry/2)))
	if err != nil {
		return s.conn.explainRequest("pull messages", err)
	}
	s.messages = messages
	s.queue = make(chan jetstream.Msg, limit)
	s.pumped = make(chan struct{})
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go s.pump(ctx)
	return nil
}

// pump moves messages from the client to the queue until the session ends.
func (s *session) pump(ctx context.Context) {
	defer close(s.pumped)
	for {
		msg, err := s.messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			s.conn.end(s.explainNext(err))
			return
		}
		if err := s.track(msg); err != nil {
			s.conn.end(err)
			return
		}
		select {
		case s.queue <- msg:
		case <-s.stopping: // to be handed back
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) explainNext(err error) error {
	info := s.consumer.CachedInfo()
	switch {
	case errors.Is(err, jetstream.ErrConsumerDeleted):
		return fmt.Errorf("consumer %s of stream %s was deleted in the broker; making it anew", info.Name, info.Stream)
	case errors.Is(err, jetstream.ErrNoHeartbeat):
		return fmt.Errorf("the broker at %s went silent", s.conn.broker)
	}
	return fmt.Errorf("read from consumer %s of stream %s: %w", info.Name, info.Stream, err)
}

// track checks that no delivery is missing. One that went elsewhere (to a
// connection that broke, to an owner before us) would come again later than
// its successors.
func (s *session) track(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read a message's metadata: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	number := meta.Sequence.Consumer
	if s.next != 0 {
		if number != s.next {
			return fmt.Errorf("consumer %s delivered number %d after %d: somebody else reads through it, or a message was lost on the way; starting over from what is acknowledged",
				meta.Consumer, number, s.next-1)
		}
		s.next++
	}
	s.unacked[number] = msg
	return nil
}

func (s *session) fetch(ctx context.Context, limit int) (message.Delivery, error) {
	if s.messages == nil {
		if err := s.start(ctx, limit); err != nil {
			return message.Delivery{}, err
		}
	}
	first, err := s.await(ctx)
	if err != nil {
		return message.Delivery{}, err
	}
	batch := append(make([]jetstream.Msg, 0, min(limit, len(s.queue)+1)), first)
	for len(batch) < limit {
		select {
		case msg := <-s.queue:
			batch = append(batch, msg)
			continue
		default:
		}
		break
	}
	envelopes := make([]message.Envelope, len(batch))
	for i, msg := range batch {
		if envelopes[i], err = s.envelope(msg); err != nil {
			return message.Delivery{}, err
		}
	}
	return message.Delivery{
		Envelopes:   envelopes,
		Acknowledge: func(ctx context.Context) error { return s.acknowledge(ctx, batch) },
	}, nil
}

// await waits for one message, asking now and then why there is none.
func (s *session) await(ctx context.Context) (jetstream.Msg, error) {
	select {
	case msg := <-s.queue:
		return msg, nil
	default:
	}
	idle := time.NewTicker(idleCheck)
	defer idle.Stop()
	for {
		select {
		case msg := <-s.queue:
			return msg, nil
		case <-s.conn.ended:
			return nil, s.conn.cause
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-idle.C:
			if err := s.askWhySilent(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// askWhySilent finds a deleted consumer, and one that holds back because
// others have too much unacknowledged.
func (s *session) askWhySilent(ctx context.Context) error {
	info, err := s.conn.consumerInfo(ctx, s.consumer)
	if err != nil {
		return err
	}
	s.mu.Lock()
	mine := len(s.unacked)
	s.mu.Unlock()
	if mine == 0 && info.NumPending > 0 && info.Config.MaxAckPending > 0 && info.NumAckPending >= info.Config.MaxAckPending {
		return delivery.RetryAfter(fmt.Errorf("consumer %s of stream %s holds %d messages back: %d are delivered to others and not acknowledged, and max_ack_pending is %d; see that the others run, or raise it",
			info.Name, info.Stream, info.NumPending, info.NumAckPending, info.Config.MaxAckPending), 0)
	}
	return nil
}

func (s *session) envelope(msg jetstream.Msg) (message.Envelope, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return message.Envelope{}, fmt.Errorf("read a message's metadata: %w", err)
	}
	e := message.Envelope{
		Destination: msg.Subject(),
		Body:        msg.Data(),
		Time:        meta.Timestamp,
		Coordinates: s.prefix + strconv.FormatUint(meta.Sequence.Stream, 10),
	}
	e.EventID, e.Headers = fromHeaders(msg.Headers())
	return e, nil
}

// fromHeaders takes the message id out, and sorts: the client has no order.
func fromHeaders(h natsgo.Header) (id string, headers []message.Header) {
	if len(h) == 0 {
		return "", nil
	}
	headers = make([]message.Header, 0, len(h))
	for name, values := range h {
		if name == jetstream.MsgIDHeader && len(values) > 0 {
			id = values[0]
			continue
		}
		for _, value := range values {
			headers = append(headers, message.Header{Name: name, Value: value})
		}
	}
	slices.SortStableFunc(headers, func(a, b message.Header) int { return cmp.Compare(a.Name, b.Name) })
	return id, headers
}

// acknowledge tells the broker about each message, and waits until it has
// heard about the last. What does not get there comes again and is known.
func (s *session) acknowledge(ctx context.Context, batch []jetstream.Msg) error {
	request, cancel := s.conn.request(ctx)
	defer cancel()
	last := len(batch) - 1
	for i, msg := range batch {
		var err error
		if i < last {
			err = msg.Ack()
		} else {
			err = msg.DoubleAck(request)
		}
		if err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
			return fmt.Errorf("acknowledge %d messages: %w", len(batch), s.conn.answer(request, err))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, msg := range batch {
		if meta, err := msg.Metadata(); err == nil {
			delete(s.unacked, meta.Sequence.Consumer)
		}
	}
	return nil
}

// close hands back what was delivered and not acknowledged, so that another
// reader of a shared consumer need not wait for ack_wait.
func (s *session) close(ctx context.Context) {
	defer s.conn.close()
	if s.messages == nil {
		return
	}
	defer s.cancel()
	select {
	case <-s.conn.ended:
		s.cancel()
	default:
		close(s.stopping)
		s.messages.Drain()
		patience := time.NewTimer(flushTimeout)
		defer patience.Stop()
		select {
		case <-s.pumped:
		case <-s.conn.ended:
		case <-patience.C:
		case <-ctx.Done():
		}
		s.cancel()
		<-s.pumped
		s.handBack(ctx)
		return
	}
	s.messages.Stop()
	<-s.pumped
}

func (s *session) handBack(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, number := range slices.Sorted(maps.Keys(s.unacked)) {
		if err := s.unacked[number].Nak(); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
			return // the broker finds out by itself after ack_wait
		}
	}
	if len(s.unacked) == 0 || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	_ = s.conn.nc.FlushWithContext(ctx) // the broker finds out by itself after ack_wait
}
