package upkeep

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// fakeStore has a list of what each step does.
type fakeStore struct {
	steps [][]catalog.Step
	calls int
	err   error
	sizes []catalog.OutboxSize
	inbox []catalog.InboxStep
}

func (s *fakeStore) Maintain(context.Context) ([]catalog.Step, error) {
	s.calls++
	if s.err != nil || len(s.steps) == 0 {
		return nil, s.err
	}
	next := s.steps[0]
	s.steps = s.steps[1:]
	return next, nil
}

func (s *fakeStore) Outboxes(context.Context) ([]catalog.OutboxSize, error) { return s.sizes, nil }

func (s *fakeStore) MaintainInboxes(context.Context) (step catalog.InboxStep, err error) {
	if len(s.inbox) > 0 {
		step, s.inbox = s.inbox[0], s.inbox[1:]
	}
	return step, nil
}

func newKeeper(s *fakeStore) (*Keeper, *bytes.Buffer) {
	var log bytes.Buffer
	return New(s, retry.System{}, slog.New(slog.NewTextHandler(&log, nil))), &log
}

func TestARoundGoesOnWhileThereIsSomethingToDo(t *testing.T) {
	s := &fakeStore{steps: [][]catalog.Step{{{Action: "prepared"}}, {{Action: "rotated"}}, {{Action: "emptied"}}}}
	k, _ := newKeeper(s)
	k.runOnce(t.Context())
	if s.calls != 4 {
		t.Errorf("%d steps were taken, want 3 and the one that finds nothing", s.calls)
	}
}

func TestARoundEndsWhenAllThatIsLeftFails(t *testing.T) {
	failed := []catalog.Step{{Outbox: "o", Action: catalog.StepFailed, Part: 3, Detail: "it is broken"}}
	s := &fakeStore{steps: [][]catalog.Step{{failed[0], {Outbox: "p", Action: "rotated"}}, failed, failed}}
	k, log := newKeeper(s)
	k.runOnce(t.Context())
	if s.calls != 2 || strings.Count(log.String(), "it is broken") != 1 {
		t.Errorf("%d steps were taken; said %s", s.calls, log)
	}
}

func TestRoundsComeAsOftenAsTheShortestRetentionNeeds(t *testing.T) {
	for _, c := range []struct {
		retentions []time.Duration
		want       time.Duration
	}{
		{nil, time.Minute},
		{[]time.Duration{24 * time.Hour}, time.Minute},
		{[]time.Duration{24 * time.Hour, time.Minute}, 3 * time.Second},
	} {
		s := &fakeStore{}
		for _, r := range c.retentions {
			s.sizes = append(s.sizes, catalog.OutboxSize{Retention: r, WarnBytes: 1})
		}
		k, _ := newKeeper(s)
		if got := k.runOnce(t.Context()); got != c.want {
			t.Errorf("retentions %v: the pause is %v, want %v", c.retentions, got, c.want)
		}
	}
}

func TestALargeOutboxIsSaidOnceAMinuteWithWhoHoldsItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{sizes: []catalog.OutboxSize{
			{Name: "large", Retention: time.Minute, Bytes: 11, WarnBytes: 10, HeldBy: []string{"slow", "paused"}, HeldSince: time.Unix(0, 0)},
			{Name: "small", Retention: time.Minute, Bytes: 10, WarnBytes: 10},
		}}
		k, log := newKeeper(s)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Second)
		defer cancel()
		k.Run(ctx)
		text := log.String()
		if strings.Count(text, "outbox=large") != 3 || strings.Contains(text, "small") ||
			!strings.Contains(text, `held_back_by="slow, paused"`) || !strings.Contains(text, "held_since=1970-01-01T00:00:00Z") {
			t.Errorf("in two minutes it said %s", text)
		}
		if len(k.Outboxes()) != 2 {
			t.Errorf("it has seen %+v", k.Outboxes())
		}
	})
}

func TestTroubleIsSaidOnceAMinuteAndNotAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, log := newKeeper(&fakeStore{err: errors.New("out of order"), sizes: []catalog.OutboxSize{{Retention: time.Minute, WarnBytes: 1}}})
		ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
		defer cancel()
		k.Run(ctx)
		if strings.Count(log.String(), "out of order") != 1 {
			t.Errorf("said %s", log)
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		k, log = newKeeper(&fakeStore{err: errors.New("out of order")})
		k.Run(stopped)
		if log.Len() > 0 {
			t.Errorf("said while stopping: %s", log)
		}
	})
}

func TestInboxesAreCleanedAndLongWaitsSaid(t *testing.T) {
	s := &fakeStore{inbox: []catalog.InboxStep{{Inbox: "a", Action: "opened a part"}, {Waiting: "b", Waited: 2 * longWait}, {Inbox: "c"}}}
	k, log := newKeeper(s)
	k.runOnce(t.Context())
	if len(s.inbox) != 1 || !strings.Contains(log.String(), "inbox=b") {
		t.Errorf("%d steps were not taken; said %s", len(s.inbox), log)
	}
}
