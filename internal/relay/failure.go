package relay

import (
	"errors"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// side is which end a session failed at, as the reason names it.
type side string

const (
	database side = "the database"
	broker   side = "the broker"
)

// sideError says at which end something failed.
type sideError struct {
	side side
	err  error
}

func (e *sideError) Error() string { return e.err.Error() }
func (e *sideError) Unwrap() error { return e.err }

func at(side side, err error) error {
	if err == nil {
		return nil
	}
	return &sideError{side: side, err: err}
}

// blockedError ends a session at an event that holds the pipeline.
type blockedError struct {
	eventID, key string
	err          error
}

func (e *blockedError) Error() string {
	key := ""
	if e.key != "" {
		key = fmt.Sprintf(" of key %q", e.key)
	}
	return fmt.Sprintf("event %s%s is refused and on_error is block: %v", e.eventID, key, e.err)
}

func (e *blockedError) Unwrap() error { return e.err }

func blocked(m *message.Message, err error) error {
	return &blockedError{eventID: m.EventID, key: m.Key, err: err}
}

// outcome is what the pipeline does about the error that ended a session.
type outcome struct {
	state  pipeline.State
	reason string
	wait   time.Duration
	end    bool // another relay owns the pipeline: never again
}

// judge decides what comes after a failed session. This is the one place
// where that is decided.
func (w *worker) judge(err error) outcome {
	var block *blockedError
	verdict, atLeast := delivery.VerdictOf(err)
	switch {
	case errors.As(err, &block):
		return outcome{state: pipeline.StateBlocked, reason: err.Error(), wait: w.options.Misconfigured.After(w.failures)}
	case verdict == delivery.VerdictSuperseded:
		return outcome{state: pipeline.StateStopped, reason: err.Error(), end: true}
	case verdict == delivery.VerdictMisconfigured:
		return outcome{state: pipeline.StateMisconfigured, reason: err.Error(), wait: w.options.Misconfigured.After(w.failures)}
	}
	where := broker
	var s *sideError
	if errors.As(err, &s) {
		where = s.side
	}
	wait := max(w.options.Waiting.After(w.failures), atLeast)
	reason := fmt.Sprintf("waiting for %s since %s: %v", where, w.since.UTC().Format("15:04:05"), err)
	if open := w.breaker.Failure(); open > 0 {
		wait = max(wait, open)
		reason = fmt.Sprintf("circuit open for %s after failures in a row: %v", open, err)
	}
	return outcome{state: pipeline.StateWaiting, reason: reason, wait: wait}
}
