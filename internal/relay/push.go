package relay

import (
	"context"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
	"github.com/pg-tide/pg-tide/internal/run"
)

// aboutPush is what health knows the push of the inbox by.
const aboutPush = "inbox_push"

// pushing is the push of a pipeline's inbox while it runs. The runner alone
// touches it. A plan without one pushes nothing.
type pushing struct{ task *run.Task }

// begin starts the push of a new plan.
func (p *pushing) begin(intake, work context.Context, r *runner, pusher Pusher) {
	p.end()
	if pusher == nil {
		return
	}
	monitor := &pushMonitor{runner: r}
	p.task = run.Start(work, func(own, work context.Context) error {
		monitor.run(both(own, intake), work, pusher)
		return nil
	})
}

// end stops it, softly, and waits. The runner's work bounds that.
func (p *pushing) end() {
	if p.task != nil {
		p.task.Drain()
		_ = p.task.Wait() // what failed was reported
		p.task = nil
	}
}

// pushMonitor turns what the push says into the pipeline's report.
type pushMonitor struct{ runner *runner }

// run starts the push again should it fail to start.
func (m *pushMonitor) run(intake, work context.Context, pusher Pusher) {
	for failures := 1; intake.Err() == nil; failures++ {
		err := run.Protect(func() error { return pusher.Push(intake, work, m) })
		if err == nil || intake.Err() != nil {
			return
		}
		state := pipeline.StateWaiting
		if verdict, _ := delivery.VerdictOf(err); verdict == delivery.VerdictMisconfigured {
			state = pipeline.StateMisconfigured
		}
		m.Waiting(state, fmt.Sprintf("inbox_push failed and starts again: %v", err), err)
		_ = retry.Sleep(intake, m.runner.clock, m.runner.options.Waiting.After(failures))
	}
}

func (m *pushMonitor) Owns() error { return m.runner.lease.check() }

func (m *pushMonitor) Inserted() <-chan struct{} { return m.runner.inserted }

func (m *pushMonitor) Waiting(state pipeline.State, reason string, err error) {
	m.runner.health.standBeside(aboutPush, state, reason, err)
}

func (m *pushMonitor) Failed(err error) { m.runner.health.noteError(err) }

func (m *pushMonitor) Well() { m.runner.health.relieveBeside(aboutPush) }

func (m *pushMonitor) Count(pushed, failed, dead int) {
	m.runner.health.countPush(pushed, failed, dead)
}

// standBeside is stand for what runs beside the sessions: it shows only while
// the session itself has nothing worse to say.
func (h *health) standBeside(about string, state pipeline.State, reason string, err error) {
	h.mu.Lock()
	h.standing[about] = standing{state: state, reason: reason}
	h.report.LastError, h.report.LastErrorAt = err.Error(), h.clock.Now()
	flows := h.flows()
	h.mu.Unlock()
	if flows {
		h.show()
	}
}

// relieveBeside is relieve for the same.
func (h *health) relieveBeside(about string) {
	h.mu.Lock()
	_, stood := h.standing[about]
	delete(h.standing, about)
	flows := h.flows()
	h.mu.Unlock()
	if stood && flows {
		h.show()
	}
}

// flows says whether the session is well, so that what stands may be shown.
// The lock is held.
func (h *health) flows() bool {
	return h.failures == 0 && h.report.State != pipeline.StateStarting && h.report.State != pipeline.StateStopped
}

func (h *health) noteError(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report.LastError, h.report.LastErrorAt = err.Error(), h.clock.Now()
}

func (h *health) countPush(pushed, failed, dead int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report.Pushed += int64(pushed)
	h.report.PushFailed += int64(failed)
	h.report.PushDead += int64(dead)
}
