package tidetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/tide"
)

// Recorder is a tide.Metrics that remembers what became of messages, for tests
// that wait until a worker has done something.
type Recorder struct {
	mu       sync.Mutex
	outcomes map[string][]tide.Outcome // by event id
	total    int
	changed  chan struct{}
}

// NewRecorder makes a recorder, to be given to tide.WorkerConfig.
func NewRecorder() *Recorder {
	return &Recorder{outcomes: map[string][]tide.Outcome{}, changed: make(chan struct{})}
}

// Claimed is for tide.Metrics.
func (r *Recorder) Claimed(string, int) {}

// Handled is for tide.Metrics.
func (r *Recorder) Handled(m *tide.Message, outcome tide.Outcome, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[m.EventID] = append(r.outcomes[m.EventID], outcome)
	r.total++
	close(r.changed)
	r.changed = make(chan struct{})
}

// Outcomes returns what has become of an event so far, attempt by attempt.
func (r *Recorder) Outcomes(eventID string) []tide.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]tide.Outcome(nil), r.outcomes[eventID]...)
}

// Wait waits until the worker has settled so many messages, each attempt counted.
func (r *Recorder) Wait(t T, total int) {
	t.Helper()
	r.until(t, func() bool { return r.total >= total })
}

// WaitFor waits until an outcome is among those of an event.
func (r *Recorder) WaitFor(t T, eventID string, outcome tide.Outcome) {
	t.Helper()
	r.until(t, func() bool {
		for _, o := range r.outcomes[eventID] {
			if o == outcome {
				return true
			}
		}
		return false
	})
}

func (r *Recorder) until(t T, reached func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), Patience, errors.New("the worker did not get that far"))
	defer cancel()
	for {
		r.mu.Lock()
		done, changed, total := reached(), r.changed, r.total
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("wait for a worker: %v (%d messages settled)", context.Cause(ctx), total)
			return
		}
	}
}
