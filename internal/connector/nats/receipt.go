package nats

import (
	"context"
	"fmt"
	"time"

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
}

// Wait returns once the broker has spoken about every event, or the session ended.
func (r *receipt) Wait(ctx context.Context) error {
	fault.At(fault.ForwardBeforeReceipt)
	rejected := map[int]error{}
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	for i, ack := range r.acks {
		timer.Reset(ackTimeout)
		err := r.waitFor(ctx, ack, timer)
		if err == nil {
			fault.At(fault.ForwardAmidReceipt)
			continue
		}
		if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject {
			return err
		}
		rejected[i] = err
	}
	if len(rejected) > 0 {
		return &delivery.Partial{Failed: rejected}
	}
	fault.At(fault.ForwardAfterReceipt)
	return nil
}

func (r *receipt) waitFor(ctx context.Context, ack jetstream.PubAckFuture, timer *time.Timer) error {
	select {
	case stored := <-ack.Ok():
		// A duplicate is durable too: an earlier attempt stored it.
		return r.checkStream(ack.Msg().Subject, stored)
	case err := <-ack.Err():
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

// checkStream makes sure that the event lies where the pipeline was told it
// would: subjects can move to another stream while the relay runs, and that
// one's settings were never looked at.
func (r *receipt) checkStream(subject string, stored *jetstream.PubAck) error {
	for _, info := range r.streams {
		if info.Config.Name == stored.Stream {
			return nil
		}
	}
	return errElsewhere(subject, stored.Stream)
}

func errElsewhere(subject, stream string) error {
	return fmt.Errorf("subject %q was stored in stream %s, which is not the one in use; looking again", subject, stream)
}
