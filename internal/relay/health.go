package relay

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// health keeps a pipeline's report current.
type health struct {
	spec   pipeline.Spec
	clock  retry.Clock
	logger *slog.Logger
	// dirty wakes the reporter after a change of state; it never blocks.
	dirty func()

	mu     sync.Mutex
	report pipeline.Report
	// standing is what single lanes wait for while the rest may flow.
	standing map[string]standing
	failures int
	since    time.Time // of the first failure in a row
	meter    meter
	// memory knows the rate limit and the circuit; nil before the first session.
	memory *memory
	// source knows how much is left; nil where nobody does.
	source Backlogger
}

// standing is a state that lasts until somebody relieves it.
type standing struct {
	state  pipeline.State
	reason string
}

func newHealth(spec pipeline.Spec, clock retry.Clock, logger *slog.Logger, dirty func()) *health {
	return &health{
		spec:     spec,
		clock:    clock,
		logger:   logger.With("pipeline", spec.Name),
		dirty:    dirty,
		standing: map[string]standing{},
		report:   pipeline.Report{PipelineID: spec.ID, Fence: spec.Fence, State: pipeline.StateStarting},
	}
}

// failed counts a failure in a row and returns their number and the time of the first.
func (h *health) failed(err error) (failures int, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock.Now()
	if h.failures == 0 {
		h.since = now
	}
	h.failures++
	h.report.LastError, h.report.LastErrorAt = err.Error(), now
	return h.failures, h.since
}

// note shows what went wrong and was mended: it stays as the last error, and is
// logged once.
func (h *health) note(err error) {
	h.mu.Lock()
	h.report.LastError, h.report.LastErrorAt = err.Error(), h.clock.Now()
	h.mu.Unlock()
	h.logger.Warn("the sink lost events that it had acknowledged", "error", err)
	h.dirty()
}

// well says that the pipeline works: whatever failed before is over, but for
// what some lane still stands at.
func (h *health) well() {
	h.mu.Lock()
	h.failures = 0
	h.mu.Unlock()
	h.show()
}

// show makes the state what the standing troubles say.
func (h *health) show() {
	h.mu.Lock()
	now := standing{state: pipeline.StateRunning}
	for _, s := range h.standing {
		// blocked outweighs waiting; among equals the text decides, so that it does not flicker
		worse := s.state == pipeline.StateBlocked && now.state != pipeline.StateBlocked
		if now.state == pipeline.StateRunning || worse || s.state == now.state && s.reason < now.reason {
			now = s
		}
	}
	h.mu.Unlock()
	h.become(now.state, now.reason)
}

// begin forgets what lanes of an earlier session stood at.
func (h *health) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for about := range h.standing {
		if about != aboutPush {
			delete(h.standing, about)
		}
	}
}

// stand says that one part of the pipeline cannot go on, and why.
func (h *health) stand(about string, state pipeline.State, reason string, err error) {
	h.mu.Lock()
	h.standing[about] = standing{state: state, reason: reason}
	h.report.LastError, h.report.LastErrorAt = err.Error(), h.clock.Now()
	h.mu.Unlock()
	h.show()
}

// remark shows something about the pipeline while it runs.
func (h *health) remark(about, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.standing[about] = standing{state: pipeline.StateRunning, reason: text}
}

// relieve says that it goes on.
func (h *health) relieve(about string) {
	h.mu.Lock()
	_, stood := h.standing[about]
	delete(h.standing, about)
	h.mu.Unlock()
	if stood {
		h.show()
	}
}

// troubled says whether something failed since the pipeline last worked.
func (h *health) troubled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures > 0
}

// become changes the state; nothing happens when it is that already.
func (h *health) become(state pipeline.State, reason string) {
	h.mu.Lock()
	if h.report.State == state && h.report.Reason == reason {
		h.mu.Unlock()
		return
	}
	h.report.State, h.report.Reason = state, reason
	h.log()
	h.mu.Unlock()
	h.dirty()
}

// log writes the state, under the lock, so that the last line is the latest
// state. A state that flickers is the logger's to hold back.
func (h *health) log() {
	level := slog.LevelInfo
	switch h.report.State {
	case pipeline.StateWaiting, pipeline.StateBlocked, pipeline.StateMisconfigured:
		level = slog.LevelWarn
	}
	attributes := []any{"state", string(h.report.State)}
	if h.report.Reason != "" {
		attributes = append(attributes, "reason", h.report.Reason)
	}
	h.logger.Log(context.Background(), level, "pipeline changed its state", attributes...)
}

// count adds to the counters.
func (h *health) count(delivered, filtered, failed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report.Delivered += int64(delivered)
	h.report.Filtered += int64(filtered)
	h.report.Failed += int64(failed)
	h.meter.add(h.clock.Now(), delivered)
}

// observe makes reports tell of the rate limit and the circuit breaker.
func (h *health) observe(m *memory) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.memory = m
}

// watch makes reports tell how much the source has left. What an earlier one
// said stands until this one knows.
func (h *health) watch(source Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.source, _ = source.(Backlogger)
}

// measure takes in what the source says.
func (h *health) measure() {
	h.mu.Lock()
	source := h.source
	h.mu.Unlock()
	if source == nil {
		return
	}
	left, known := source.Backlog() // outside of the lock: the source has locks of its own
	if !known {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report.Lag, h.report.LagKnown = left, true
}

// now returns the report as it is now.
func (h *health) now() pipeline.Report {
	h.measure()
	h.mu.Lock()
	defer h.mu.Unlock()
	report := h.report
	report.RatePerSecond = h.meter.rate(h.clock.Now())
	if h.memory == nil {
		return report
	}
	circuit, _ := h.memory.breaker.State()
	report.Circuit = string(circuit)
	// Not a state of its own: it comes and goes with each burst, and whoever
	// looks asks for the reason.
	if report.State == pipeline.StateRunning && h.memory.limiter.Holds() {
		limited := "rate limited to " + strconv.FormatFloat(h.memory.limiter.PerSecond(), 'f', -1, 64) + "/s"
		if report.Reason != "" {
			limited = report.Reason + "; " + limited
		}
		report.Reason = limited
	}
	return report
}

// meterSeconds is the length of time that a rate is measured over.
const meterSeconds = 5

// meter counts events by the second, for a few seconds.
type meter struct {
	counts [meterSeconds + 1]int
	// begun is when the first was counted. Seconds are counted from there on the
	// monotonic clock: with those of a wall clock that was set back the meter
	// would stand still until it is as late again.
	begun  time.Time
	newest int64 // the second that was counted last
}

func (m *meter) add(now time.Time, n int) {
	m.roll(now)
	m.counts[m.newest%int64(len(m.counts))] += n
}

// rate is that of the last full seconds, so that a steady flow shows a steady number.
func (m *meter) rate(now time.Time) float64 {
	m.roll(now)
	sum := -m.counts[m.newest%int64(len(m.counts))]
	for _, n := range m.counts {
		sum += n
	}
	return float64(sum) / meterSeconds
}

// roll forgets the seconds that are too long ago.
func (m *meter) roll(now time.Time) {
	if m.begun.IsZero() {
		m.begun = now
	}
	second := int64(now.Sub(m.begun) / time.Second)
	if second-m.newest > int64(len(m.counts)) {
		m.counts, m.newest = [meterSeconds + 1]int{}, second
	}
	for m.newest < second {
		m.newest++
		m.counts[m.newest%int64(len(m.counts))] = 0
	}
}
