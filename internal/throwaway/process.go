package throwaway

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// process is a running postmaster, our direct child.
type process struct {
	pid int
	// done is closed after it ended and was waited for.
	done chan struct{}
	err  error
	log  string
}

// launch starts the postmaster and waits for its end in a goroutine that keeps
// its thread: on Linux the child is bound to the life of the thread that
// forked it, not of the process, and would die with it.
func launch(command *exec.Cmd, log string) (*process, error) {
	p := &process{done: make(chan struct{}), log: log}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := command.Start()
		if err == nil {
			p.pid = command.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = command.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	return p, nil
}

// signal asks the postmaster to stop in the signal's way.
func (p *process) signal(s os.Signal) error {
	found, err := os.FindProcess(p.pid)
	if err != nil {
		return err
	}
	return found.Signal(s)
}

// wait waits for the end of the postmaster.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ready waits until the server takes connections, which it says in the last
// line of its pid file.
func (p *process) ready(ctx context.Context, dataDir string) error {
	file := filepath.Join(dataDir, "postmaster.pid")
	return poll(ctx, 5*time.Millisecond, func() (bool, error) {
		select {
		case <-p.done:
			return false, fmt.Errorf("PostgreSQL ended while starting (%w):\n%s", p.err, tail(p.log))
		default:
		}
		text, _ := os.ReadFile(file) // not written yet reads as empty
		lines := strings.Split(string(text), "\n")
		// A crashed predecessor leaves its file, with another pid.
		return len(lines) > 7 && lines[0] == strconv.Itoa(p.pid) && strings.TrimSpace(lines[7]) == "ready", nil
	})
}

// tail is the end of a log, for error messages.
func tail(path string) string {
	const most = 4000
	text, err := os.ReadFile(path)
	if err != nil {
		return "(its log cannot be read)"
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.TrimSpace(string(text))
}
