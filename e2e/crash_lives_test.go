package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/fault"
)

// lives is one relay after another on one database: whenever one dies the
// next is started. The first end where the plan says, the last ones where they
// are told to.
type lives struct {
	binary, dsn string
	plan        []death
	// mutant is what is wrong with all of them; empty for nothing.
	mutant fault.Mutation
	// bury makes the database take the dead relay for dead, as it would by
	// itself when the lease is over. It returns false when it is too early.
	bury func() (bool, error)

	mu      sync.Mutex
	changed chan struct{}
	command *exec.Cmd
	log     *logBuffer
	logs    []*logBuffer
	// died counts the lives that ended as planned, ended all that have ended.
	died, ended int
	over        bool
	err         error
	done        chan struct{}
}

func startLives(t *testing.T, l *lives) {
	t.Helper()
	l.changed, l.done = make(chan struct{}), make(chan struct{})
	go l.run()
	t.Cleanup(func() {
		l.finish(syscall.SIGKILL)
		<-l.done
		if t.Failed() {
			for i, log := range l.logs {
				t.Logf("life %d:\n%s", i+1, log.String())
			}
		}
	})
}

func (l *lives) run() {
	defer close(l.done)
	for l.start() {
		err := l.command.Wait()
		if !l.note(err) || !l.buried() {
			return
		}
	}
}

// buried waits until the dead relay counts as dead.
func (l *lives) buried() bool {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		gone, err := l.bury()
		if err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.err = err
			l.signalChange()
			return false
		}
		if gone {
			return true
		}
		<-again.C
	}
}

// start begins the next life.
func (l *lives) start() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.command = exec.Command(l.binary, "--postgres-url", l.dsn, "--http-addr", "off")
	l.command.Env = append(os.Environ(), "PG_TIDE_LOG_FORMAT=json")
	if l.died < len(l.plan) {
		l.command.Env = append(l.command.Env, "PG_TIDE_FAULT="+l.plan[l.died].String())
	}
	if l.mutant != "" {
		l.command.Env = append(l.command.Env, "PG_TIDE_MUTANT="+string(l.mutant))
	}
	l.log = newLogBuffer()
	l.logs = append(l.logs, l.log)
	l.command.Stdout, l.command.Stderr = l.log, l.log
	l.err = l.command.Start()
	l.signalChange()
	return l.err == nil
}

// note counts a life that is over, and says whether another may begin.
func (l *lives) note(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.signalChange()
	l.ended++
	var exit *exec.ExitError
	switch {
	case err == nil: // it was told to end
	case !errors.As(err, &exit):
		l.err = err
	case exit.ExitCode() == 137 && l.died < len(l.plan) && strings.Contains(l.log.String(), "exit at "+string(l.plan[l.died].point)+", passage"):
		l.died++
	case exit.ExitCode() == -1: // a signal of the test's
	default:
		l.err = fmt.Errorf("life %d ended with %w", l.ended, err)
	}
	return l.err == nil && !l.over
}

func (l *lives) signalChange() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// fine fails the test when lives end in ways that nobody planned.
func (l *lives) fine(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		t.Fatal(l.err)
	}
}

// left are the planned ends that have not come.
func (l *lives) left() []death {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plan[l.died:]
}

// signal sends a signal to the relay that lives, and waits until it is dead
// and the next one lives.
func (l *lives) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	l.mu.Lock()
	ended := l.ended
	err := l.command.Process.Signal(signal)
	l.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	eventually(t, func() (bool, string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.err != nil || l.ended > ended && len(l.logs) > l.ended, "the relay ends and another begins"
	})
	l.fine(t)
}

func (l *lives) kill(t *testing.T) { t.Helper(); l.signal(t, syscall.SIGKILL) }

// finish ends the last life by a signal.
func (l *lives) finish(signal os.Signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.command != nil && l.command.Process != nil {
		_ = l.command.Process.Signal(signal) // it may have ended already
	}
}
