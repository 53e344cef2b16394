package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

const (
	batchHeaderPrefix = "Nats-Batch-"
	batchIDHeader     = batchHeaderPrefix + "Id"
	batchSequence     = batchHeaderPrefix + "Sequence"
	batchCommit       = batchHeaderPrefix + "Commit"
	// maxAtomicBatch is what the broker takes in one atomic batch.
	maxAtomicBatch = 1000
	// batchHeaderBytes is what the headers above take at most.
	batchHeaderBytes = 128

	codeContainsDuplicate jetstream.ErrorCode = 10201
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

// orderedReceipt stores events of a replicated stream, or of one that refuses
// events when it is full: batch after batch, each whole or not at all, or event
// by event where the stream takes no atomic batches.
//
// Without it: events 1 to 9 are on their way while the stream changes its
// leader. 1 to 4 find no leader and are refused, 5 to 9 reach the new one and
// are stored; 1 to 4 are sent again and lie behind. Or 5 is larger than the room
// that is left, 6 to 9 are not, and 5 is stored once there is room again.
type orderedReceipt struct {
	conn     *connection
	stream   *jetstream.StreamInfo
	previous *orderedReceipt
	marks    *marks

	mu       sync.Mutex
	messages []natsgo.Msg // nil once stored
	failed   error
}

// Wait stores what came before and then this batch, unless that was done.
func (r *orderedReceipt) Wait(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil || r.messages == nil {
		return r.failed
	}
	err := r.store(ctx)
	if err != nil && ctx.Err() == nil {
		r.failed = err
	}
	return err
}

func (r *orderedReceipt) store(ctx context.Context) error {
	if r.previous != nil {
		if err := r.previous.Wait(ctx); err != nil {
			// Retried whatever the earlier batch's own verdict is.
			return delivery.RetryAfter(fmt.Errorf("an earlier batch was not stored: %w", plain(err)), 0)
		}
		r.previous = nil
	}
	for len(r.messages) > 0 {
		n := min(len(r.messages), maxAtomicBatch)
		chunk := r.messages[:n]
		var err error
		if r.stream.Config.AllowAtomicPublish {
			err = r.commit(ctx, chunk)
		} else {
			err = r.oneByOne(ctx, chunk)
		}
		if codeOf(err) == codeContainsDuplicate {
			// A resend, partly stored already: one by one, which keeps order too.
			err = r.oneByOne(ctx, chunk)
		}
		if err != nil {
			return err
		}
		r.messages = r.messages[n:]
	}
	r.messages = nil
	return nil
}

// plain takes the verdict off an error and keeps its text.
func plain(err error) error { return errors.New(err.Error()) }

// commit sends one atomic batch. The broker answers the last message.
func (r *orderedReceipt) commit(ctx context.Context, chunk []natsgo.Msg) error {
	id, last := nuid.Next(), len(chunk)-1
	for i := range chunk[:last] {
		mark(&chunk[i], id, i+1)
		if err := r.conn.mayPublish(); err != nil {
			return err
		}
		if err := r.conn.nc.PublishMsg(&chunk[i]); err != nil {
			return r.conn.publishFailed(chunk[i].Subject, err)
		}
	}
	if last > 0 {
		mark(&chunk[last], id, last+1)
		chunk[last].Header[batchCommit] = []string{"1"}
	}
	return r.ask(ctx, &chunk[last])
}

func mark(m *natsgo.Msg, id string, sequence int) {
	m.Header[batchIDHeader] = []string{id}
	m.Header[batchSequence] = []string{strconv.Itoa(sequence)}
}

func (r *orderedReceipt) oneByOne(ctx context.Context, chunk []natsgo.Msg) error {
	for i := range chunk {
		for name := range chunk[i].Header {
			if strings.HasPrefix(name, batchHeaderPrefix) {
				delete(chunk[i].Header, name)
			}
		}
		if err := r.ask(ctx, &chunk[i]); err != nil {
			return err
		}
	}
	return nil
}

// ask publishes and waits for the broker's answer. A verdict about one event
// of an atomic batch would be a verdict about nobody knows which: sizes were
// checked before, so whatever is left is to be retried.
func (r *orderedReceipt) ask(ctx context.Context, m *natsgo.Msg) error {
	if err := r.conn.mayPublish(); err != nil {
		return err
	}
	before := r.marks.sequence(r.stream.Config.Name)
	request, cancel := r.conn.request(ctx)
	defer cancel()
	reply, err := r.conn.nc.RequestMsgWithContext(request, m)
	if err != nil {
		return r.explain(m.Subject, r.conn.answer(request, err))
	}
	var stored struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.PubAck
	}
	if err := json.Unmarshal(reply.Data, &stored); err != nil {
		return fmt.Errorf("read the broker's answer about subject %q: %w", m.Subject, err)
	}
	if stored.Error != nil {
		return r.explain(m.Subject, stored.Error)
	}
	if stored.Stream != r.stream.Config.Name {
		return errElsewhere(m.Subject, stored.Stream)
	}
	if !stored.Duplicate && stored.Sequence <= before {
		return errWentBack(stored.Stream, stored.Sequence, before)
	}
	r.marks.note(streamMark{Stream: stored.Stream, Created: r.stream.Created, Sequence: stored.Sequence, ID: m.Header.Get(jetstream.MsgIDHeader)})
	return nil
}

func (r *orderedReceipt) explain(subject string, err error) error {
	if codeOf(err) == codeContainsDuplicate {
		return err
	}
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictRetry {
		return err
	}
	explained := explainPublish(r.conn.broker, subject, r.stream.Config.Name, err)
	if verdict, after := delivery.VerdictOf(explained); verdict == delivery.VerdictReject {
		return delivery.RetryAfter(plain(explained), after)
	}
	return explained
}
