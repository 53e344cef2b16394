package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pg-tide/pg-tide/internal/telemetry"
)

// journal is a log whose time is the bubble's, and what was said in it.
type journal struct {
	*slog.Logger
	flush func()
	out   output
	begun time.Time
}

// output is read while a line that was held may be on its way.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// written makes what was logged short: seconds, message, state, reason, held back.
func (j *journal) written(t *testing.T) []string {
	t.Helper()
	synctest.Wait()
	var all []string
	for line := range strings.Lines(j.out.String()) {
		var said struct {
			Time            time.Time
			Msg             string
			Pipeline, State string
			HeldBack        int `json:"held_back"`
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		text := fmt.Sprintf("%.1f %s", said.Time.Sub(j.begun).Seconds(), said.Msg)
		for _, more := range []string{said.Pipeline, said.State} {
			if more != "" {
				text += " " + more
			}
		}
		if said.HeldBack > 0 {
			text += fmt.Sprintf(" (%d)", said.HeldBack)
		}
		all = append(all, text)
	}
	return all
}

func inBubble(t *testing.T, f func(t *testing.T, j *journal)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{begun: time.Now()}
		var err error
		if j.Logger, j.flush, err = telemetry.NewLogger(&j.out, "json", "info"); err != nil {
			t.Fatal(err)
		}
		f(t, j)
	})
}

func (j *journal) want(t *testing.T, want ...string) {
	t.Helper()
	if got := j.written(t); !slices.Equal(got, want) {
		t.Errorf("logged\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const tenth = 100 * time.Millisecond

func TestTheSameLineIsSaidOnceASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, j *journal) {
		for i := range 25 {
			j.Warn("it failed", "error", fmt.Sprint("attempt ", i), "attempt", i)
			time.Sleep(120 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		j.want(t, "0.0 it failed", "1.0 it failed (7)", "2.0 it failed (7)", "3.0 it failed (7)")
	})
}

func TestTheLatestStateIsSaidInTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, j *journal) {
		become := func(pipeline string, level slog.Level, state string) {
			// A pipeline that is taken anew has a logger of its own.
			j.With("pipeline", pipeline).Log(t.Context(), level, "state", "state", state)
		}
		become("a", slog.LevelInfo, "running")
		time.Sleep(tenth)
		become("a", slog.LevelWarn, "waiting")
		become("b", slog.LevelInfo, "running")
		time.Sleep(2 * time.Second)
		become("a", slog.LevelInfo, "running")
		time.Sleep(tenth)
		become("a", slog.LevelWarn, "waiting")
		time.Sleep(tenth)
		become("a", slog.LevelInfo, "running")
		time.Sleep(time.Minute)
		become("a", slog.LevelWarn, "waiting")
		j.want(t, "0.0 state a running", "0.1 state b running", "1.0 state a waiting",
			"2.1 state a running", "3.1 state a running (1)", "62.3 state a waiting")
		time.Sleep(time.Second)
	})
}

func TestLinesAboutDifferentThingsDoNotHoldEachOtherBack(t *testing.T) {
	inBubble(t, func(t *testing.T, j *journal) {
		j.Info("ready", "stream", "a")
		j.Info("ready", "stream", "b")
		j.Info("ready", slog.Group("far", "stream", "a"))
		j.WithGroup("near").Info("ready", "stream", "a")
		j.WithGroup("near").With("pipeline", "p").Info("ready", "stream", "a")
		j.Info("ready", "stream", "a", "error", errors.New("another"))
		j.want(t, "0.0 ready", "0.0 ready", "0.0 ready", "0.0 ready", "0.0 ready")
		time.Sleep(time.Second)
	})
}

func TestWhatIsHeldBackIsSaidAtTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, j *journal) {
		for _, pipeline := range []string{"a", "b", "c"} {
			j.Info("state", "pipeline", pipeline, "state", "running")
		}
		time.Sleep(tenth)
		j.Info("state", "pipeline", "c", "state", "stopped")
		time.Sleep(tenth)
		j.Info("state", "pipeline", "a", "state", "stopped")
		j.Info("state", "pipeline", "b", "state", "running")
		j.flush()
		j.flush()
		time.Sleep(time.Minute)
		j.want(t, "0.0 state a running", "0.0 state b running", "0.0 state c running",
			"0.2 state c stopped", "0.2 state a stopped")
	})
}

func TestTooManyDifferentLinesAllGoThroughAndAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, j *journal) {
		const many = 5000
		for range 2 {
			for i := range many {
				j.Info("state", "pipeline", fmt.Sprint("p", i))
			}
		}
		time.Sleep(2 * time.Second)
		said := map[string]int{}
		for _, line := range j.written(t) {
			_, pipeline, _ := strings.Cut(line, "state ")
			said[pipeline]++
		}
		if len(said) != many {
			t.Errorf("%d of %d pipelines were logged", len(said), many)
		}
		before := len(j.written(t))
		j.Info("state", "pipeline", "p0")
		j.Info("state", "pipeline", "p0")
		if got := len(j.written(t)) - before; got != 1 {
			t.Errorf("%d lines about one pipeline at once, when what went before is over", got)
		}
		time.Sleep(2 * time.Second)
	})
}
