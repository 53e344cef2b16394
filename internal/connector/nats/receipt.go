package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
)

// ackTimeout is how long the broker may stay silent about one event.
const ackTimeout = 10 * time.Second

// receipt waits for the acknowledgements of one Send.
type receipt struct {
	conn    *connection
	acks    []jetstream.PubAckFuture
	streams []*jetstream.StreamInfo

	// marks takes in what is acknowledged; before is how far each stream had
	// got when the events were sent.
	marks  *marks
	before []uint64
}

func newReceipt(conn *connection, streams []*jetstream.StreamInfo, marks *marks, events int) *receipt {
	r := &receipt{conn: conn, acks: make([]jetstream.PubAckFuture, events), streams: streams, marks: marks,
		before: make([]uint64, len(streams))}
	for i, info := range streams {
		r.before[i] = marks.sequence(info.Config.Name)
	}
	return r
}

// Wait returns once the broker has spoken about every event, or the session ended.
func (r *receipt) Wait(ctx context.Context) error {
	fault.At(fault.ForwardBeforeReceipt)
	rejected := map[int]error{}
	reached := make([]streamMark, len(r.streams))
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	for i, ack := range r.acks {
		timer.Reset(ackTimeout)
		err := r.waitFor(ctx, ack, timer, reached)
		if err == nil {
			fault.At(fault.ForwardAmidReceipt)
			continue
		}
		if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject {
			return err
		}
		rejected[i] = err
	}
	for _, m := range reached {
		if m.Sequence > 0 {
			r.marks.note(m)
		}
	}
	if len(rejected) > 0 {
		return &delivery.Partial{Failed: rejected}
	}
	fault.At(fault.ForwardAfterReceipt)
	return nil
}

func (r *receipt) waitFor(ctx context.Context, ack jetstream.PubAckFuture, timer *time.Timer, reached []streamMark) error {
	select {
	case stored := <-ack.Ok():
		// A duplicate is durable too: an earlier attempt stored it.
		return r.stored(ack.Msg(), stored, reached)
	case err := <-ack.Err():
		if fault.Mutant(fault.ClientResends) && errors.Is(err, natsgo.ErrDisconnected) {
			return r.resend(ctx, ack, timer, reached)
		}
		return r.refused(ack.Msg().Subject, err)
	case <-r.conn.ended:
		return r.conn.cause
	case <-timer.C:
		return fmt.Errorf("the broker at %s did not acknowledge an event within %s", r.conn.broker, ackTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *receipt) refused(subject string, err error) error {
	name := "that takes " + subject
	for _, info := range r.streams {
		if len(r.streams) == 1 || coversAll(info.Config.Subjects, []string{subject}) {
			name = info.Config.Name
		}
	}
	return explainPublish(r.conn.broker, subject, name, err)
}

// stored takes in where an event lies. It makes sure that this is where the
// pipeline was told it would: subjects can move to another stream while the
// relay runs, and that one's settings were never looked at. An event that is
// stored at or before a place that was acknowledged earlier shows that the
// stream lost its end meanwhile.
func (r *receipt) stored(m *natsgo.Msg, ack *jetstream.PubAck, reached []streamMark) error {
	for i, info := range r.streams {
		if info.Config.Name != ack.Stream {
			continue
		}
		if !ack.Duplicate && ack.Sequence <= r.before[i] {
			return errWentBack(ack.Stream, ack.Sequence, r.before[i])
		}
		if ack.Sequence > reached[i].Sequence {
			reached[i] = streamMark{Stream: ack.Stream, Created: info.Created, Sequence: ack.Sequence, ID: messageID(m)}
		}
		return nil
	}
	return errElsewhere(m.Subject, ack.Stream)
}

// messageID is the id that an event was sent with; without the search for other
// spellings of the header's name.
func messageID(m *natsgo.Msg) string {
	if ids := m.Header[jetstream.MsgIDHeader]; len(ids) > 0 {
		return ids[0]
	}
	return ""
}

func errWentBack(stream string, sequence, before uint64) error {
	return fmt.Errorf("stream %s stored an event as number %d, and had acknowledged %d before: it lost its end; looking what is missing", stream, sequence, before)
}

func errElsewhere(subject, stream string) error {
	return fmt.Errorf("subject %q was stored in stream %s, which is not the one in use; looking again", subject, stream)
}
