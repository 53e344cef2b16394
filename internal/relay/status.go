package relay

import (
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// status is what one pipeline knows about itself. Many goroutines write it,
// the supervisor reads it.
type status struct {
	clock   retry.Clock
	changed func() // tells the supervisor that the state is another; never blocks

	mu      sync.Mutex
	report  pipeline.Report
	dirty   bool // the state changed since the last report
	counted bool // a counter changed since the last report
	// mark and markAt are where the rate was last measured from
	mark   int64
	markAt time.Time
}

func newStatus(spec *pipeline.Spec, clock retry.Clock, changed func()) *status {
	s := &status{clock: clock, changed: changed, markAt: clock.Now()}
	s.report = pipeline.Report{PipelineID: spec.ID, Fence: spec.Fence, State: pipeline.StateStarting}
	s.dirty = true
	return s
}

// set changes the state, and tells whether it is another than before.
func (s *status) set(state pipeline.State, reason string) bool {
	s.mu.Lock()
	other := s.report.State != state || s.report.Reason != reason
	if other {
		s.report.State, s.report.Reason, s.dirty = state, reason, true
	}
	s.mu.Unlock()
	if other {
		s.changed()
	}
	return other
}

func (s *status) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.LastError, s.report.LastErrorAt = err.Error(), s.clock.Now()
	s.dirty = true
}

func (s *status) count(delivered, filtered, failed int) {
	if delivered == 0 && filtered == 0 && failed == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Delivered += int64(delivered)
	s.report.Filtered += int64(filtered)
	s.report.Failed += int64(failed)
	s.counted = true
}

// snapshot returns the report of now.
func (s *status) snapshot() pipeline.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

// take returns the report if there is something new: a state, or, when
// counters are asked for, those. The rate is measured between such reports.
func (s *status) take(counters bool) (pipeline.Report, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if counters {
		now := s.clock.Now()
		if span := now.Sub(s.markAt).Seconds(); span > 0 {
			rate := float64(s.report.Delivered-s.mark) / span
			s.counted = s.counted || rate != s.report.RatePerSecond
			s.report.RatePerSecond = rate
			s.mark, s.markAt = s.report.Delivered, now
		}
	}
	if !s.dirty && !(counters && s.counted) {
		return pipeline.Report{}, false
	}
	s.dirty, s.counted = false, false
	return s.report, true
}

// age is the time since the counters were last asked for.
func (s *status) age() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock.Now().Sub(s.markAt)
}

// again marks the state as unreported: the report could not be stored.
func (s *status) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = true
}
