package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// lettersAtOnce is how many dead letters one look takes.
const lettersAtOnce = 100

// retryLetters tries dead letters again when somebody asked for it, beside the
// flow: what goes wrong with a letter is written on the letter. Its context
// ends when intake is done.
func (s *session) retryLetters(ctx context.Context, try func(ctx context.Context, l *message.DeadLetter) error) error {
	for {
		more, err := s.retryDue(ctx, try)
		stopped := ctx.Err() != nil
		switch {
		case stopped:
			return nil //nolint:nilerr // a call that a stop cut short is no failure
		case isSuperseded(err):
			return err
		case err != nil:
			s.health.logger.DebugContext(ctx, "retry of dead letters put off", "error", err)
		}
		if more {
			continue
		}
		if !s.waitForLetters(ctx) {
			return nil
		}
	}
}

// waitForLetters returns false when intake is done.
func (s *session) waitForLetters(ctx context.Context) bool {
	timer := s.clock.NewTimer(s.options.LetterPoll)
	defer timer.Stop()
	select {
	case <-s.letters:
	case <-timer.C():
	case <-ctx.Done():
		return false
	}
	// somebody may have discarded letters as well
	s.holds.stale.Store(true)
	return true
}

// retryDue tries what is due, once, and says whether there may be more.
func (s *session) retryDue(ctx context.Context, try func(ctx context.Context, l *message.DeadLetter) error) (bool, error) {
	var letters []message.DeadLetter
	err := s.call(ctx, database, "read due dead letters", func(ctx context.Context) (err error) {
		letters, err = s.plan.DeadLetters.Due(ctx, lettersAtOnce)
		return err
	})
	if err != nil {
		return false, err
	}
	// under park_key a letter that fails again keeps those behind it waiting
	failed := map[string]error{}
	for i := range letters {
		l := &letters[i]
		key := l.Message.Key
		outcome := failed[key]
		if outcome == nil {
			outcome = try(ctx, l)
		}
		if outcome != nil && !isFinal(outcome) {
			return false, outcome // not the letter's fault: it stays due
		}
		if outcome != nil && key != "" && s.limits.OnError == pipeline.ParkKey {
			failed[key] = parked(key)
		}
		err := s.call(ctx, database, "settle a dead letter", func(ctx context.Context) error {
			return s.plan.DeadLetters.Settle(ctx, l.ID, outcome)
		})
		if err != nil {
			return false, err
		}
		s.holds.stale.Store(true)
		if outcome == nil {
			s.health.count(1, 0, 0)
		}
	}
	return len(letters) == lettersAtOnce, nil
}

// letterError is a retried letter's own failure.
type letterError struct{ err error }

func (e *letterError) Error() string { return e.err.Error() }
func (e *letterError) Unwrap() error { return e.err }

func isFinal(err error) bool {
	var own *letterError
	return errors.As(err, &own) || isRefusal(err)
}

// resend tries a letter of a forward pipeline: the event as it was, through
// the changes and the codec as they are now.
func (f *forward) resend(ctx context.Context, l *message.DeadLetter) error {
	envelope, keep, err := f.prepare(&l.Message)
	if err != nil {
		return asLetterError(err)
	}
	if !keep {
		return nil
	}
	err = f.deliver(ctx, envelope)
	if partial, ok := partialOf(err, 1); partial != nil && ok && allRejected(partial) {
		return &letterError{err: unwrapPartial(err)}
	}
	return asTransient(err)
}

// reinsert tries a letter of a reverse pipeline: its bytes through the codec
// and the changes as they are now.
func (r *reverse) reinsert(ctx context.Context, l *message.DeadLetter) error {
	decoded, err := r.plan.Codec.Decode(&message.Envelope{
		Destination: l.Message.Destination,
		EventID:     l.Message.EventID,
		Key:         l.Message.Key,
		Headers:     l.TransportHeaders,
		Body:        l.Body,
		Time:        l.Message.Time,
		Coordinates: l.Coordinates,
	})
	if err != nil {
		return asLetterError(err)
	}
	changed, keep, err := r.change(decoded)
	if err != nil {
		return asLetterError(err)
	}
	if !keep {
		return nil
	}
	_, err = r.insert(ctx, []message.Message{changed})
	if partial, ok := partialOf(err, 1); partial != nil && ok && allRejected(partial) {
		return &letterError{err: unwrapPartial(err)}
	}
	return asTransient(err)
}

func asLetterError(err error) error {
	if isRefusal(err) {
		return &letterError{err: err}
	}
	return err
}

// asTransient keeps an error without a verdict, such as that of a lost
// connection, from being taken for the letter's own.
func asTransient(err error) error {
	var verdict *delivery.Error
	if err == nil || errors.As(err, &verdict) {
		return err
	}
	return delivery.RetryAfter(err, 0)
}

// unwrapPartial returns the first failure itself, without "event 0 of the batch".
func unwrapPartial(err error) error {
	var partial *delivery.Partial
	if errors.As(err, &partial) {
		if first, ok := partial.First(); ok {
			return partial.Failed[first]
		}
	}
	return err
}

// noteAttempt shows that an event is being tried again.
func (s *session) noteAttempt(m *message.Message, r refusal) {
	s.health.become(pipeline.StateWaiting, fmt.Sprintf("event %s was refused and is tried again, up to %d times: %v",
		m.EventID, s.limits.MaxAttempts, r.err))
}

// clockTime is how a reason writes a moment.
func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
