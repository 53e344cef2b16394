package relay

import (
	"context"
	"errors"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// lettersAtOnce is how many dead letters one look takes.
const lettersAtOnce = 100

// retrier is how a direction tries letters again.
type retrier interface {
	// retry tries one letter.
	retry(ctx context.Context, l *message.DeadLetter) error
	// loosen is told when letters may have gone.
	loosen()
}

// retryLetters tries dead letters again when somebody asked for it, beside the
// flow: what goes wrong with a letter is written on the letter. Its context
// ends when intake is done.
//
// A letter that fails for a reason not its own is put off. When that happens
// again, and nothing else moved meanwhile, the session itself may be broken:
// nobody but an event would notice.
func (s *session) retryLetters(ctx context.Context, by retrier) error {
	failedAt := int64(-1)
	for {
		s.lettersSeen.Store(false) // a heartbeat says so again while there are any
		steps := s.memory.steps.Load()
		more, err := s.retryDue(ctx, by)
		stopped := ctx.Err() != nil
		switch {
		case stopped:
			return nil //nolint:nilerr // a call that a stop cut short is no failure
		case isSuperseded(err), err != nil && failedAt == steps:
			return err
		case err == nil:
			failedAt = -1
		default:
			failedAt = steps
			s.health.logger.DebugContext(ctx, "retry of dead letters put off", "error", err)
		}
		if more {
			continue
		}
		if !s.waitForLetters(ctx) {
			return nil
		}
		// somebody may have discarded letters as well
		by.loosen()
	}
}

// waitForLetters waits until somebody says that letters changed, or for the
// time between two looks where there were any since the last. Without that
// each of many idle pipelines would ask the database again and again. It
// returns false when intake is done.
func (s *session) waitForLetters(ctx context.Context) bool {
	for {
		timer := s.clock.NewTimer(s.options.LetterPoll)
		select {
		case <-s.letters:
			timer.Stop()
			return true
		case <-timer.C():
			if s.lettersSeen.Load() {
				return true
			}
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// retryDue tries what is due, once, and says whether there may be more. Under
// park_key letters of a key are due in its order, and none behind one that
// waits; so when one goes, others may have become due.
func (s *session) retryDue(ctx context.Context, by retrier) (more bool, err error) {
	inOrder := s.limits.OnError == pipeline.ParkKey
	var letters []message.DeadLetter
	err = s.call(ctx, database, "read due dead letters", func(ctx context.Context) (err error) {
		letters, err = s.plan.DeadLetters.Due(ctx, lettersAtOnce, inOrder)
		return err
	})
	if err != nil || len(letters) > 0 {
		s.lettersSeen.Store(true) // one that is put off is looked for again
	}
	if err != nil {
		return false, err
	}
	failed := map[string]bool{}
	for i := range letters {
		l := &letters[i]
		key := l.Message.Key
		if failed[key] {
			continue // it stays as it is, behind the one that failed
		}
		outcome := by.retry(ctx, l)
		if outcome != nil && !isFinal(outcome) {
			return false, outcome // not the letter's fault: it stays due
		}
		failed[key] = outcome != nil && key != "" && inOrder
		err := s.call(ctx, database, "settle a dead letter", func(ctx context.Context) error {
			return s.plan.DeadLetters.Settle(ctx, l.ID, outcome)
		})
		if err != nil {
			return false, err
		}
		if outcome == nil {
			more = more || inOrder && key != ""
			s.health.count(1, 0, 0)
			by.loosen()
		}
	}
	return more || len(letters) == lettersAtOnce, nil
}

// letterError is a retried letter's own failure.
type letterError struct{ err error }

func (e *letterError) Error() string { return e.err.Error() }
func (e *letterError) Unwrap() error { return e.err }

func isFinal(err error) bool {
	var own *letterError
	return errors.As(err, &own) || isRefusal(err)
}

// retry tries a letter of a forward pipeline: the event as it was, through the
// changes and the codec as they are now, on its key's lane.
func (f *forward) retry(ctx context.Context, l *message.DeadLetter) error {
	envelope, keep, err := f.prepare(&l.Message)
	if err != nil {
		return asLetterError(err)
	}
	if !keep {
		return nil
	}
	if err := f.memory.limiter.Wait(ctx, 1); err != nil {
		return err
	}
	err = f.lanes[laneOf(l.Message.Key, len(f.lanes))].deliver(ctx, envelope)
	if partial, ok := partialOf(err, 1); partial != nil && ok && allRejected(partial) {
		return &letterError{err: unwrapPartial(err)}
	}
	return asTransient(err)
}

// retry tries a letter of a reverse pipeline: its bytes through the codec
// and the changes as they are now.
func (r *reverse) retry(ctx context.Context, l *message.DeadLetter) error {
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
	_, err = r.insert(ctx, []message.Message{changed}, nil)
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

// clockTime is how a reason writes a moment.
func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
