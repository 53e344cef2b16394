//go:build unix

package process_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// output wakes whoever waits for a line.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	told chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.told <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func shell(t *testing.T, script string) (*process.Process, *output) {
	t.Helper()
	o := &output{told: make(chan struct{}, 1)}
	p, err := process.Start(t.Context(), process.Options{Program: "/bin/sh", Arguments: []string{"-c", script}, Output: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, o
}

func TestKilledProcessHasEnded(t *testing.T) {
	t.Parallel()
	p, _ := shell(t, "exec sleep 1000")
	if !p.Running() {
		t.Fatal("it does not run")
	}
	p.Kill()
	if p.Running() {
		t.Error("it runs")
	}
	p.Kill() // once more does no harm
}

func TestTerminatedProcessMayFinish(t *testing.T) {
	t.Parallel()
	p, o := shell(t, `trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.02; done`)
	<-o.told
	if err := p.Terminate(patience); err != nil {
		t.Fatal(err)
	}
	if o.mu.Lock(); !strings.Contains(o.text.String(), "bye") {
		t.Errorf("it printed %q", o.text.String())
	}
	o.mu.Unlock()
}

func TestStubbornProcessIsKilledAndTheErrorSaysSo(t *testing.T) {
	t.Parallel()
	p, o := shell(t, `trap '' TERM; echo up; while :; do sleep 0.02; done`)
	<-o.told
	if err := p.Terminate(50 * time.Millisecond); err == nil {
		t.Error("no error")
	}
	if p.Running() {
		t.Error("it runs")
	}
}

func TestFrozenProcessDoesNothingAndGoesOn(t *testing.T) {
	t.Parallel()
	p, o := shell(t, `while :; do echo tick; sleep 0.01; done`)
	<-o.told
	if err := p.Freeze(); err != nil || !p.Frozen() {
		t.Fatalf("frozen is %v, %v", p.Frozen(), err)
	}
	awaitState(t, p, 'T')
	for len(o.told) > 0 {
		<-o.told // lines that were on their way
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-o.told:
	case <-time.After(patience):
		t.Error("it does not go on")
	}
}

// awaitState waits until the kernel says that the process is in a state.
func awaitState(t *testing.T, p *process.Process, want byte) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		if errors.Is(err, fs.ErrNotExist) {
			t.Skip("only Linux tells a process's state in a file")
		}
		if _, rest, ok := bytes.Cut(text, []byte(") ")); ok && rest[0] == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the state is not %c: %s, %v", want, text, err)
		}
		<-tick.C
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	t.Parallel()
	_, err := process.Start(t.Context(), process.Options{Program: "/no/such/program"})
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("the error is %v", err)
	}
}
