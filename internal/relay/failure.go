package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// side names what a pipeline waits for, in the words of its reason.
type side string

const (
	database side = "the database"
	farEnd   side = "the broker"
)

// sideError is an error with the side that it came from.
type sideError struct {
	side side
	err  error
}

func (e *sideError) Error() string { return e.err.Error() }
func (e *sideError) Unwrap() error { return e.err }

func sideOf(err error) side {
	var s *sideError
	if errors.As(err, &s) {
		return s.side
	}
	return farEnd
}

// blockedError ends a session at an event that its policy may not pass.
type blockedError struct {
	eventID, key string
	err          error
}

func (e *blockedError) Error() string {
	if e.key == "" {
		return fmt.Sprintf("event %s was refused: %v", e.eventID, e.err)
	}
	return fmt.Sprintf("event %s (key %q) was refused: %v", e.eventID, e.key, e.err)
}

func (e *blockedError) Unwrap() error { return e.err }

func blocked(m *message.Message, err error) error {
	return &blockedError{eventID: m.EventID, key: m.Key, err: err}
}

// worse returns the error that decides what happens after a session in which
// both occurred: the loss of ownership outweighs all, the first comes first.
func worse(first, second error) error {
	if first == nil || isSuperseded(second) {
		return second
	}
	return first
}

func isSuperseded(err error) bool {
	if err == nil {
		return false
	}
	verdict, _ := delivery.VerdictOf(err)
	return verdict == delivery.VerdictSuperseded
}

// isRefusal says whether a codec or a change blames the event. They say reject;
// an error without any verdict is taken for one, since it would come again each
// time and hold up all others.
func isRefusal(err error) bool {
	var verdict *delivery.Error
	return !errors.As(err, &verdict) || verdict.Verdict == delivery.VerdictReject
}

// allRejected says whether a partial failure names events that were refused,
// or held behind such, and nothing else.
func allRejected(p *delivery.Partial) bool {
	for _, err := range p.Failed {
		if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject && verdict != delivery.VerdictHeld {
			return false
		}
	}
	return len(p.Failed) > 0
}

// blame returns the error of a partial failure that decides: misconfigured
// before retry, and either before a refusal, which has time.
func blame(p *delivery.Partial) error {
	if len(p.Failed) == 0 {
		return errors.New("part of the batch failed and no event was named")
	}
	var decisive error
	weight := -1
	for _, i := range p.Indices() {
		verdict, _ := delivery.VerdictOf(p.Failed[i])
		if w := gravity(verdict); w > weight {
			decisive, weight = p.Failed[i], w
		}
	}
	return decisive
}

func gravity(v delivery.Verdict) int {
	switch v {
	case delivery.VerdictSuperseded:
		return 3
	case delivery.VerdictMisconfigured:
		return 2
	case delivery.VerdictRetry:
		return 1
	default:
		return 0
	}
}

// call makes one bounded call to a side and names what it was about.
func call(ctx context.Context, limit time.Duration, at side, doing string, f func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case bounded.Err() != nil && errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%s: timed out after %s", doing, limit)
	}
	return &sideError{side: at, err: err}
}
