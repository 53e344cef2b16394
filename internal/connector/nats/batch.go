package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
)

const (
	batchHeaderPrefix = "Nats-Batch-"
	batchIDHeader     = batchHeaderPrefix + "Id"
	batchSequence     = batchHeaderPrefix + "Sequence"
	batchCommit       = batchHeaderPrefix + "Commit"
	// MaxAtomicBatch is how many events the broker takes in one atomic batch,
	// unless it is configured to take others.
	MaxAtomicBatch = 1000
	// batchHeaderBytes is what the headers above take at most.
	batchHeaderBytes = 128

	codeContainsDuplicate jetstream.ErrorCode = 10201
	codeBatchTooLarge     jetstream.ErrorCode = 10199
)

// sentInOrder reports whether the stream can refuse an event and take one that
// was sent behind it, so that nothing may be on its way behind an event.
func sentInOrder(cfg *jetstream.StreamConfig) bool {
	return cfg.Replicas > 1 && cfg.AllowAtomicPublish || refusesSome(cfg)
}

// refusesSome reports whether the stream refuses events when it is full: then a
// large one may be refused and a small one behind it taken.
func refusesSome(cfg *jetstream.StreamConfig) bool {
	return cfg.Discard == jetstream.DiscardNew &&
		(cfg.MaxBytes > 0 || cfg.MaxMsgs > 0 || cfg.DiscardNewPerSubject && cfg.MaxMsgsPerSubject > 0)
}

// orderedReceipt stores events batch after batch, each whole or not at all, or
// event by event where the stream takes no atomic batches. It serves pipelines
// that are atomic, replicated streams, and those that refuse events when they
// are full.
//
// Without it: events 1 to 9 are on their way while the stream changes its
// leader. 1 to 4 find no leader and are refused, 5 to 9 reach the new one and
// are stored; 1 to 4 are sent again and lie behind. Or 5 is larger than the room
// that is left, 6 to 9 are not, and 5 is stored once there is room again.
type orderedReceipt struct {
	conn     *connection
	previous *orderedReceipt
	marks    *marks
	limits   *batchLimits
	// whole says that units are transactions.
	whole bool
	// waiting counts the bytes of all of the session's that are not stored yet.
	waiting *atomic.Int64
	bytes   int64

	mu      sync.Mutex
	batches []batch // those that are not stored yet
	failed  error
}

// unit is what is stored whole or not at all, unless it is divisible.
type unit struct {
	messages  []natsgo.Msg
	divisible bool
}

// batch is neighbours of one stream that are sent at once.
type batch struct {
	stream *jetstream.StreamInfo
	units  []unit
}

func (b *batch) messages() []natsgo.Msg {
	if len(b.units) == 1 {
		return b.units[0].messages
	}
	var all []natsgo.Msg
	for i := range b.units {
		all = append(all, b.units[i].messages...)
	}
	return all
}

// halves parts a batch, where it may be.
func (b *batch) halves() []batch {
	if n := len(b.units); n > 1 {
		return []batch{{b.stream, b.units[:n/2]}, {b.stream, b.units[n/2:]}}
	}
	only := b.units[0]
	n := len(only.messages)
	if !only.divisible || n < 2 {
		return nil
	}
	return []batch{
		{b.stream, []unit{{only.messages[:n/2], true}}},
		{b.stream, []unit{{only.messages[n/2:], true}}},
	}
}

// inOrder makes batches of events that need not be kept together.
func inOrder(stream *jetstream.StreamInfo, messages []natsgo.Msg, most int) []batch {
	var batches []batch
	for chunk := range slices.Chunk(messages, most) {
		batches = append(batches, batch{stream, []unit{{chunk, true}}})
	}
	return batches
}

// Wait stores what came before and then this batch, unless that was done.
func (r *orderedReceipt) Wait(ctx context.Context) error {
	fault.At(fault.ForwardBeforeReceipt)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil || r.batches == nil {
		return r.failed
	}
	err := r.store(ctx)
	if err != nil && ctx.Err() == nil {
		r.failed = err
	}
	if err == nil {
		r.waiting.Add(-r.bytes)
		fault.At(fault.ForwardAfterReceipt)
	}
	return err
}

// mostWaiting bounds, in bytes, what is handed over and not stored yet: nothing
// of it is sent before somebody waits for it. The engine holds less.
const mostWaiting = 64 << 20

// queue hands batches over to be stored behind those before them.
func (s *Sink) queue(conn *connection, batches []batch, bytes int64) (*orderedReceipt, error) {
	r := &orderedReceipt{conn: conn, batches: batches, previous: s.last, marks: &s.marks, limits: s.limits, whole: s.whole,
		waiting: &conn.waiting, bytes: bytes}
	if waiting := r.waiting.Add(r.bytes); waiting > mostWaiting {
		return nil, fmt.Errorf("the broker at %s acknowledges nothing; events of %d bytes wait for it", conn.broker, waiting)
	}
	s.last = r
	return r, nil
}

func (r *orderedReceipt) store(ctx context.Context) error {
	if r.previous != nil {
		if err := r.previous.Wait(ctx); err != nil {
			// Retried whatever the earlier batch's own verdict is.
			return delivery.RetryAfter(fmt.Errorf("an earlier batch was not stored: %w", plain(err)), 0)
		}
		r.previous = nil
	}
	for len(r.batches) > 0 {
		instead, err := r.storeBatch(ctx, &r.batches[0])
		if err != nil {
			return err
		}
		r.batches = append(instead, r.batches[1:]...)
		fault.At(fault.ForwardAmidReceipt)
	}
	r.batches = nil
	return nil
}

// storeBatch stores a batch, or returns what is to be stored in its place.
func (r *orderedReceipt) storeBatch(ctx context.Context, b *batch) (instead []batch, err error) {
	messages := b.messages()
	if !b.stream.Config.AllowAtomicPublish {
		return nil, r.oneByOne(ctx, b.stream, messages)
	}
	err = r.commit(ctx, b.stream, messages)
	switch codeOf(err) {
	case codeContainsDuplicate: // a resend, of which some is stored already
		if r.whole {
			return nil, r.storeMissing(ctx, b.stream, messages)
		}
		return nil, r.oneByOne(ctx, b.stream, messages) // keeps order too
	case codeBatchTooLarge:
		return r.tooLarge(b, len(messages))
	}
	return nil, err
}

// plain takes the verdict off an error and keeps its text.
func plain(err error) error { return errors.New(err.Error()) }

// commit sends one atomic batch. The broker answers the last message.
func (r *orderedReceipt) commit(ctx context.Context, stream *jetstream.StreamInfo, chunk []natsgo.Msg) error {
	id, last := nuid.Next(), len(chunk)-1
	unmark(chunk)
	for i := range chunk[:last] {
		mark(&chunk[i], id, i+1)
		if err := r.conn.mayPublish(); err != nil {
			return err
		}
		if err := r.conn.nc.PublishMsg(&chunk[i]); err != nil {
			return r.conn.publishFailed(chunk[i].Subject, err)
		}
		fault.At(fault.ForwardAmidSend)
	}
	if last > 0 {
		mark(&chunk[last], id, last+1)
		chunk[last].Header[batchCommit] = []string{"1"}
	}
	return r.ask(ctx, stream, &chunk[last])
}

func mark(m *natsgo.Msg, id string, sequence int) {
	m.Header[batchIDHeader] = []string{id}
	m.Header[batchSequence] = []string{strconv.Itoa(sequence)}
}

// unmark takes the marks of an earlier attempt off.
func unmark(chunk []natsgo.Msg) {
	for i := range chunk {
		for name := range chunk[i].Header {
			if strings.HasPrefix(name, batchHeaderPrefix) {
				delete(chunk[i].Header, name)
			}
		}
	}
}

func (r *orderedReceipt) oneByOne(ctx context.Context, stream *jetstream.StreamInfo, chunk []natsgo.Msg) error {
	unmark(chunk)
	for i := range chunk {
		if err := r.ask(ctx, stream, &chunk[i]); err != nil {
			return err
		}
	}
	return nil
}

// ask publishes and waits for the broker's answer. A verdict about one event
// of an atomic batch would be a verdict about nobody knows which: sizes were
// checked before, so whatever is left is to be retried.
func (r *orderedReceipt) ask(ctx context.Context, stream *jetstream.StreamInfo, m *natsgo.Msg) error {
	if err := r.conn.mayPublish(); err != nil {
		return err
	}
	before := r.marks.sequence(stream.Config.Name)
	request, cancel := r.conn.request(ctx)
	defer cancel()
	reply, err := r.conn.nc.RequestMsgWithContext(request, m)
	if err != nil {
		return r.explain(stream, m.Subject, r.conn.answer(request, err))
	}
	var stored struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.PubAck
	}
	if err := json.Unmarshal(reply.Data, &stored); err != nil {
		return fmt.Errorf("read the broker's answer about subject %q: %w", m.Subject, err)
	}
	if stored.Error != nil {
		return r.explain(stream, m.Subject, stored.Error)
	}
	if stored.Stream != stream.Config.Name {
		return errElsewhere(m.Subject, stored.Stream)
	}
	if !stored.Duplicate && stored.Sequence <= before {
		return errWentBack(stored.Stream, stored.Sequence, before)
	}
	r.marks.note(streamMark{Stream: stored.Stream, Created: stream.Created, Sequence: stored.Sequence, ID: messageID(m)})
	return nil
}

func (r *orderedReceipt) explain(stream *jetstream.StreamInfo, subject string, err error) error {
	if code := codeOf(err); code == codeContainsDuplicate || code == codeBatchTooLarge {
		return err
	}
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictRetry {
		return err
	}
	explained := explainPublish(r.conn.broker, subject, stream.Config.Name, err)
	if verdict, after := delivery.VerdictOf(explained); verdict == delivery.VerdictReject {
		return delivery.RetryAfter(plain(explained), after)
	}
	return explained
}
