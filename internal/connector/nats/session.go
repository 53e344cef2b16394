package nats

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// idleCheck is how often a silent consumer is asked why it is silent.
	idleCheck    = 15 * time.Second
	flushTimeout = time.Second
)

// What the broker understands as a reply to a message.
var (
	acknowledged = []byte("+ACK")
	handedBack   = []byte("-NAK")
)

// session reads from one Open to the next Close.
type session struct {
	conn     *connection
	consumer jetstream.Consumer
	settings *consumerSettings
	prefix   string // of coordinates
	stopping chan struct{}

	fetching sync.Mutex // held by fetch; guards the next five
	puller   *puller
	next     uint64        // delivery number expected next; 0: not checked
	due      []*natsgo.Msg // taken when the session began, in order; comes first
	origin   string        // of marks; empty when nobody remembers them
	baseline *message.Mark // to be saved before anything else; nil when it is

	measured chan struct{} // closed when nobody measures the backlog any more

	mu      sync.Mutex
	unacked map[uint64]*natsgo.Msg // by delivery number
	backlog backlog
}

func newSession(conn *connection, stream *jetstream.StreamInfo, consumer jetstream.Consumer, settings *consumerSettings, next uint64, due []*natsgo.Msg) *session {
	s := &session{
		conn: conn, consumer: consumer, settings: settings, next: next, due: due,
		prefix:   coordinatesOf(stream),
		stopping: make(chan struct{}),
		measured: make(chan struct{}),
		unacked:  map[uint64]*natsgo.Msg{},
	}
	s.backlog.begin(consumer.CachedInfo())
	return s
}

// remember makes the session's deliveries carry marks, and the first of them
// the one that holds now.
func (s *session) remember(ctx context.Context, r *resumption) error {
	baseline, err := r.baseline(ctx, s.consumer)
	if err != nil {
		return err
	}
	s.origin = baseline.Origin
	if r.stale(baseline) {
		s.baseline = &baseline
	}
	return nil
}

// received is a message with what its reply subject says.
type received struct {
	msg  *natsgo.Msg
	meta *natsgo.MsgMetadata
}

func (s *session) fetch(ctx context.Context, limit int) (message.Delivery, error) {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	if s.baseline != nil {
		mark := *s.baseline
		s.baseline = nil
		return message.Delivery{Mark: mark}, nil
	}
	if s.puller == nil {
		var err error
		if s.puller, err = newPuller(s.conn, s.consumer.CachedInfo(), limit); err != nil {
			return message.Delivery{}, err
		}
	}
	fault.At(fault.ReverseBeforeFetch)
	batch, err := s.collect(ctx, limit)
	if err != nil {
		return message.Delivery{}, err
	}
	fault.At(fault.ReverseAfterFetch)
	envelopes := make([]message.Envelope, len(batch))
	for i := range batch {
		envelopes[i] = s.envelope(&batch[i])
	}
	return message.Delivery{
		Envelopes:   envelopes,
		Mark:        s.markOf(&batch[len(batch)-1]),
		Acknowledge: func(ctx context.Context) error { return s.acknowledge(ctx, batch) },
	}, nil
}

// markOf is the mark that holds once a message, and all before, is durable.
func (s *session) markOf(last *received) message.Mark {
	if s.origin == "" {
		return message.Mark{}
	}
	return message.Mark{Origin: s.origin, Sequence: last.meta.Sequence.Stream, Delivery: last.meta.Sequence.Consumer}
}

// collect waits for one message and takes what else is there.
func (s *session) collect(ctx context.Context, limit int) ([]received, error) {
	var batch []received
	for len(batch) < limit && len(s.due) > 0 {
		one, err := s.track(ctx, s.due[0])
		if err != nil {
			return nil, err
		}
		batch, s.due = append(batch, one), s.due[1:]
	}
	for len(batch) < limit {
		if err := s.puller.topUp(); err != nil {
			return nil, err
		}
		var msg *natsgo.Msg
		select {
		case msg = <-s.puller.incoming:
		default:
			if len(batch) > 0 {
				return batch, nil
			}
			var err error
			if msg, err = s.await(ctx); err != nil {
				return nil, err
			}
		}
		event, err := s.puller.take(msg)
		if err != nil {
			return nil, s.explainPull(ctx, err)
		}
		if !event {
			continue
		}
		one, err := s.track(ctx, msg)
		if err != nil {
			return nil, err
		}
		batch = append(batch, one)
	}
	return batch, nil
}

// await waits for anything from the broker, asking now and then why there is nothing.
func (s *session) await(ctx context.Context) (*natsgo.Msg, error) {
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	idle := time.NewTicker(idleCheck)
	defer idle.Stop()
	s.setWaiting(true)
	defer s.setWaiting(false)
	for {
		select {
		case msg := <-s.puller.incoming:
			return msg, nil
		case <-s.conn.ended:
			return nil, s.conn.cause
		case <-s.stopping:
			return nil, errClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-quiet.C:
			return nil, s.explainPull(ctx, fmt.Errorf("the broker at %s sent nothing for %s, not even heartbeats", s.conn.broker, silence))
		case <-idle.C:
			if err := s.askWhySilent(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// explainPull looks whether the consumer is still there.
func (s *session) explainPull(ctx context.Context, err error) error {
	if _, gone := s.conn.consumerInfo(ctx, s.consumer); gone != nil {
		return gone
	}
	info := s.consumer.CachedInfo()
	return fmt.Errorf("read from consumer %s of stream %s: %w", info.Name, info.Stream, err)
}

// askWhySilent finds a consumer that holds back because others have too much
// unacknowledged.
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

// track checks that no delivery is missing. One that went elsewhere (to a
// connection that broke, to an owner before us) would come again later than
// its successors.
func (s *session) track(ctx context.Context, msg *natsgo.Msg) (received, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return received{}, fmt.Errorf("read a message's metadata: %w", err)
	}
	number := meta.Sequence.Consumer
	if s.next != 0 && number != s.next {
		if err := s.explainGap(ctx, number); err != nil {
			return received{}, err
		}
	}
	if s.next != 0 {
		s.next++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unacked[number] = msg
	s.backlog.took(meta)
	return received{msg: msg, meta: meta}, nil
}

// explainGap stops the checks when another database has begun to share the
// consumer since the session started: what is missing here went there.
func (s *session) explainGap(ctx context.Context, number uint64) error {
	info, err := s.conn.consumerInfo(ctx, s.consumer)
	if err != nil {
		return err
	}
	if s.settings.shared(&info.Config) {
		s.next = 0
		return nil
	}
	return fmt.Errorf("consumer %s of stream %s delivered number %d after %d: somebody else reads through it, or a message was lost on the way; starting over from what is acknowledged",
		info.Name, info.Stream, number, s.next-1)
}

func (s *session) envelope(r *received) message.Envelope {
	e := message.Envelope{
		Destination: r.msg.Subject,
		Body:        r.msg.Data,
		Time:        r.meta.Timestamp,
		Coordinates: s.prefix + strconv.FormatUint(r.meta.Sequence.Stream, 10),
	}
	e.EventID, e.Headers = fromHeaders(r.msg.Header)
	return e
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
		if strings.HasPrefix(name, batchHeaderPrefix) {
			continue // how it was stored, no part of the message
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
func (s *session) acknowledge(ctx context.Context, batch []received) error {
	request, cancel := s.conn.request(ctx)
	defer cancel()
	fault.At(fault.ReverseBeforeAcknowledge)
	s.mu.Lock()
	s.backlog.changes++
	s.backlog.acknowledging++
	s.mu.Unlock()
	last := len(batch) - 1
	for i := range batch {
		var err error
		if i < last {
			err = s.conn.nc.Publish(batch[i].msg.Reply, acknowledged)
		} else {
			_, err = s.conn.nc.RequestWithContext(request, batch[i].msg.Reply, acknowledged)
		}
		if err != nil {
			return fmt.Errorf("acknowledge %d messages: %w", len(batch), s.conn.answer(request, err))
		}
		fault.At(fault.ReverseAmidAcknowledge)
	}
	fault.At(fault.ReverseAfterAcknowledge)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backlog.changes++
	s.backlog.acknowledging--
	for i := range batch {
		delete(s.unacked, batch[i].meta.Sequence.Consumer)
	}
	return nil
}

// close hands back what was delivered and not acknowledged, so that another
// reader of a shared consumer need not wait for ack_wait.
func (s *session) close(ctx context.Context) {
	defer s.conn.close()
	close(s.stopping)
	<-s.measured
	s.fetching.Lock()
	defer s.fetching.Unlock()
	if s.puller != nil {
		s.drain()
	}
	for _, msg := range s.due {
		s.hold(msg)
	}
	s.handBack(ctx)
}

// drain takes what the broker has sent already.
func (s *session) drain() {
	patience := time.NewTimer(flushTimeout)
	defer patience.Stop()
	s.puller.drain(patience.C)
	for {
		select {
		case msg := <-s.puller.incoming:
			s.hold(msg)
		default:
			return
		}
	}
}

// hold remembers an event to be handed back; a status is none.
func (s *session) hold(msg *natsgo.Msg) {
	if meta, err := msg.Metadata(); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unacked[meta.Sequence.Consumer] = msg
	}
}

// handBack is a courtesy: without it the broker finds out after ack_wait.
func (s *session) handBack(ctx context.Context) {
	fault.At(fault.ReverseBeforeHandBack)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, number := range slices.Sorted(maps.Keys(s.unacked)) {
		if err := s.conn.nc.Publish(s.unacked[number].Reply, handedBack); err != nil {
			return
		}
	}
	if len(s.unacked) == 0 || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	_ = s.conn.nc.FlushWithContext(ctx) // see above
}
