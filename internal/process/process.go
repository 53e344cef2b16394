// Package process runs programs as child processes whose output goes to a
// file, and kills, stops and continues them. It refuses to know what they do,
// and signals none that it did not start.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/pg-tide/pg-tide/internal/run"
)

// Options say what to run.
type Options struct {
	// Program is the path, Arguments what follows it.
	Program   string
	Arguments []string
	// Environment is added to ours.
	Environment []string
	// Output gets what the process prints; it must take writes from a
	// goroutine of ours until the process has ended.
	Output io.Writer
}

// Process is a running, or ended, child.
type Process struct {
	pid  int
	task *run.Task

	mu     sync.Mutex
	frozen bool
}

// Start starts a child, which ends with us at the latest. The context bounds
// nothing but the goroutine's wish to be told.
func Start(ctx context.Context, o Options) (*Process, error) {
	command := exec.CommandContext(context.WithoutCancel(ctx), o.Program, o.Arguments...)
	command.Env = append(os.Environ(), o.Environment...)
	command.Stdout, command.Stderr = o.Output, o.Output
	// Grandchildren that hold the output open must not hold us.
	command.WaitDelay = time.Second
	command.SysProcAttr = bound()
	p := &Process{}
	started := make(chan error, 1)
	p.task = run.Start(context.WithoutCancel(ctx), func(_, _ context.Context) error {
		// On Linux the child is bound to the life of the thread that forked it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		if err == nil {
			p.pid = command.Process.Pid
		}
		started <- err
		if err != nil {
			return err
		}
		return command.Wait()
	})
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Program, err)
	}
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.task.Done() }

// Running says that it has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.task.Done():
		return false
	default:
		return true
	}
}

// Kill ends the process as a crash would, and waits.
func (p *Process) Kill() {
	if p.signal(os.Kill) == nil {
		<-p.Done()
	}
}

// Terminate asks the process to end and waits, at most for patience; then it
// is killed, and the error says so.
func (p *Process) Terminate(patience time.Duration) error {
	if err := p.Thaw(); err != nil {
		return err
	}
	if err := p.signal(terminateSignal); err != nil {
		return err
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-p.Done():
		return nil
	case <-timeout.C:
		p.Kill()
		return fmt.Errorf("it did not end within %s of being asked", patience)
	}
}

// Freeze stops the process where it is.
func (p *Process) Freeze() error { return p.freeze(true) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.freeze(false) }

// Frozen says whether it is frozen.
func (p *Process) Frozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

func (p *Process) freeze(want bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == want {
		return nil
	}
	with := thawSignal
	if want {
		with = freezeSignal
	}
	if err := p.signal(with); err != nil {
		return err
	}
	p.frozen = want
	return nil
}

// signal sends a signal; a process that has ended needs none.
func (p *Process) signal(s os.Signal) error {
	if !p.Running() {
		return nil
	}
	found, err := os.FindProcess(p.pid)
	if err != nil {
		return fmt.Errorf("find process %d: %w", p.pid, err)
	}
	if err := found.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to process %d: %w", s, p.pid, err)
	}
	return nil
}
