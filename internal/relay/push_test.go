package relay

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// fakePusher does what the test says while it runs.
type fakePusher struct {
	push func(intake, work context.Context, monitor pipeline.PushMonitor) error

	mu             sync.Mutex
	started, ended int
}

func (p *fakePusher) Push(intake, work context.Context, monitor pipeline.PushMonitor) error {
	p.mu.Lock()
	p.started++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.ended++
		p.mu.Unlock()
	}()
	return p.push(intake, work, monitor)
}

func (p *fakePusher) runs() (started, ended int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started, p.ended
}

func startPush(t testing.TB, w *wayBack, p *fakePusher) func() {
	_, stop := start(t, w.registry, func(spec pipeline.Spec) (Plan, error) {
		return Plan{Spec: spec, Limits: w.limits, Codec: fakeCodec{}, DeadLetters: w.letters, Source: w.source, Inbox: w.inbox, Pusher: p}, nil
	}, w.options)
	return stop
}

// The push is told of what arrives, shows its trouble and its counts, and ends
// with the pipeline.
func TestAPushRunsBesideItsPipeline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWayBack(events(20))
		trouble, over := make(chan struct{}), make(chan struct{})
		p := &fakePusher{push: func(intake, _ context.Context, m pipeline.PushMonitor) error {
			<-m.Inserted()
			if err := m.Owns(); err != nil {
				t.Errorf("not owned: %v", err)
			}
			<-trouble
			m.Count(3, 2, 1)
			m.Waiting(pipeline.StateWaiting, "inbox_push: circuit open", errors.New("answered 500"))
			<-over
			m.Well()
			<-intake.Done()
			return nil
		}}
		stop := startPush(t, w, p)
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 20 })
		close(trouble)
		await(t, "the report of the trouble", func() bool {
			r := w.registry.report(1)
			return r.State == pipeline.StateWaiting && r.Reason == "inbox_push: circuit open" && r.LastError == "answered 500" &&
				r.Pushed == 3 && r.PushFailed == 2 && r.PushDead == 1
		})
		close(over)
		await(t, "the end of the trouble", func() bool {
			r := w.registry.report(1)
			return r.State == pipeline.StateRunning && r.Reason == ""
		})
		stop()
		if started, ended := p.runs(); started != 1 || ended != 1 {
			t.Errorf("started %d times, ended %d", started, ended)
		}
	})
}

// A source that fails ends its session, and not the push; what the pipeline
// shows then is the source's trouble.
func TestAPushOutlivesTheSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWayBack(events(5))
		w.inbox.fails = func([]string) error { return errors.New("the database is away") }
		p := &fakePusher{push: func(intake, _ context.Context, m pipeline.PushMonitor) error {
			m.Waiting(pipeline.StateWaiting, "inbox_push: circuit open", errors.New("answered 500"))
			<-intake.Done()
			return nil
		}}
		stop := startPush(t, w, p)
		await(t, "sessions have failed", func() bool {
			r := w.registry.report(1)
			return r.State == pipeline.StateWaiting && strings.Contains(r.Reason, "the database is away")
		})
		time.Sleep(time.Minute) // the clock of the bubble: many sessions
		if started, ended := p.runs(); started != 1 || ended != 0 {
			t.Errorf("started %d times, ended %d", started, ended)
		}
		stop()
	})
}

func TestAPushThatFailsStartsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWayBack(nil)
		var fails sync.Once
		p := &fakePusher{}
		p.push = func(intake, _ context.Context, m pipeline.PushMonitor) (err error) {
			fails.Do(func() { err = delivery.Misconfigured(errors.New("no such file")) })
			if err != nil {
				return err
			}
			m.Well()
			<-intake.Done()
			return nil
		}
		stop := startPush(t, w, p)
		await(t, "the second start", func() bool { started, _ := p.runs(); return started == 2 })
		await(t, "it is well", func() bool {
			r := w.registry.report(1)
			return r.State == pipeline.StateRunning && strings.Contains(r.LastError, "no such file")
		})
		stop()
	})
}

// patientSink acknowledges each send after longer than a call may take.
type patientSink struct {
	*fakeSink
	takes time.Duration
}

type patientReceipt struct{ done chan struct{} }

func (r *patientReceipt) Ready() <-chan struct{} { return r.done }

func (r *patientReceipt) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *patientSink) Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	if _, err := s.fakeSink.Send(ctx, envelopes); err != nil {
		return nil, err
	}
	r := &patientReceipt{done: make(chan struct{})}
	time.AfterFunc(s.takes, func() { close(r.done) })
	return r, nil
}

// A receipt that bounds its own wait is waited for, however long a batch takes.
func TestAPatientReceiptIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outbox, sink := newOutbox(events(10)), &patientSink{fakeSink: newSink(), takes: 5 * time.Minute}
		registry := newRegistry(pipeline.Spec{ID: 1, Name: "p", Direction: pipeline.Forward, Version: 1, Fence: 1})
		_, stop := start(t, registry, func(spec pipeline.Spec) (Plan, error) {
			return Plan{Spec: spec, Limits: pipeline.Limits{BatchSize: 10}, Codec: fakeCodec{}, DeadLetters: newLetters(), Reader: outbox, Sink: sink}, nil
		}, Options{})
		time.Sleep(6 * time.Minute) // the clock of the bubble
		await(t, "the position", func() bool { return outbox.position() == 10 })
		equal(t, "sent once", sink.all(), ids(events(10)))
		stop()
	})
}
