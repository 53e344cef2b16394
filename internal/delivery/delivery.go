// Package delivery says what became of messages and what the engine must do
// next. Connectors translate their own errors into its verdicts at their
// border; it refuses to know any transport.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"
)

// Verdict is what the engine does next about an error.
type Verdict int

const (
	// VerdictRetry: nothing is known to be wrong with the events; forget the
	// session, read the saved position again and resend with backoff. It is
	// the verdict of every error that says nothing else.
	VerdictRetry Verdict = iota
	// VerdictReject: this event will never be taken as it is; the pipeline's
	// policy (block, park_key, dead_letter) decides.
	VerdictReject
	// VerdictMisconfigured: nothing will flow until a person mends the
	// configuration or the far end; try again slowly, show the sentence.
	VerdictMisconfigured
	// VerdictSuperseded: another relay owns the pipeline now; stop at once
	// and touch nothing.
	VerdictSuperseded
	// VerdictHeld: the event was not sent, because an earlier one of its key,
	// sent by the same session, was refused; it waits behind that one.
	VerdictHeld
)

// Error is an error with a verdict.
type Error struct {
	Verdict Verdict
	// After asks to wait at least this long before the retry; 0 leaves it to the policy.
	After time.Duration
	// Doubtful says, of a retry, that the event itself may be the reason: the
	// far end had it and broke on it, or was too slow.
	Doubtful bool
	Err      error
}

// Error returns the text of the wrapped error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// RetryAfter marks err as temporary, to be retried no sooner than after d.
func RetryAfter(err error, d time.Duration) error {
	return &Error{Verdict: VerdictRetry, After: d, Err: err}
}

// Reject marks err as the event's own fault: it will be refused every time.
func Reject(err error) error { return &Error{Verdict: VerdictReject, Err: err} }

// RetryDoubtful marks err as temporary, and as perhaps the event's own fault.
func RetryDoubtful(err error, after time.Duration) error {
	return &Error{Verdict: VerdictRetry, After: after, Doubtful: true, Err: err}
}

// IsDoubtful says whether the event itself may be the reason for err.
func IsDoubtful(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Doubtful
}

// ErrLeaseLost says that a lease on an inbox's messages was lost: they are
// another worker's, or settled already.
var ErrLeaseLost = errors.New("the lease was lost")

// Misconfigured marks err as one that only a person can mend.
func Misconfigured(err error) error { return &Error{Verdict: VerdictMisconfigured, Err: err} }

// Superseded marks err as: another relay owns the pipeline.
func Superseded(err error) error { return &Error{Verdict: VerdictSuperseded, Err: err} }

// Held marks err as: not sent, behind a refused event of its key.
func Held(err error) error { return &Error{Verdict: VerdictHeld, Err: err} }

// VerdictOf returns the verdict of err, and how long to wait at least.
// An error without a verdict is to be retried.
func VerdictOf(err error) (Verdict, time.Duration) {
	var e *Error
	if errors.As(err, &e) {
		return e.Verdict, e.After
	}
	return VerdictRetry, 0
}

// Proof is what a sink can say by a mark: whether it still has everything that
// it had acknowledged when the mark was made. The zero value says nothing.
type Proof struct {
	// Holds says that it has.
	Holds bool
	// Lost says in words what is missing; empty when nothing is known to be.
	Lost string
}

// Partial reports that part of a batch failed: the events at the indices in
// Failed, each with its own error and verdict. All others of the batch are durable.
type Partial struct { //nolint:errname // a batch is partial; PartialError would say less
	Failed map[int]error
}

// Error names the first failure and counts the rest.
func (p *Partial) Error() string {
	first, ok := p.First()
	if !ok {
		return "part of the batch failed"
	}
	if len(p.Failed) == 1 {
		return fmt.Sprintf("event %d of the batch: %v", first, p.Failed[first])
	}
	return fmt.Sprintf("event %d of the batch: %v (and %d more)", first, p.Failed[first], len(p.Failed)-1)
}

// First returns the lowest failed index.
func (p *Partial) First() (int, bool) {
	indices := p.Indices()
	if len(indices) == 0 {
		return 0, false
	}
	return indices[0], true
}

// Indices returns the failed indices in ascending order.
func (p *Partial) Indices() []int {
	indices := make([]int, 0, len(p.Failed))
	for i := range p.Failed {
		indices = append(indices, i)
	}
	sort.Ints(indices)
	return indices
}

// Receipt stands for envelopes handed to a sink that it may not yet have acknowledged.
type Receipt interface {
	// Wait returns nil once every envelope of the Send is durable at the far
	// end; *Partial when some were refused; any other error when nothing is
	// known about any of them.
	Wait(ctx context.Context) error
}
