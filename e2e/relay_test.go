package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen. It is long
// because machines are slow at times; no test waits for it when all is well.
const patience = 2 * time.Minute

// binary is the built command, made once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(work, "pg-tide")
	arguments := []string{"build", "-o", path}
	if raceEnabled {
		arguments = append(arguments, "-race")
	}
	build := exec.Command("go", append(arguments, "../cmd/pg-tide")...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return path, nil
})

func built(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// relay is a running `pg-tide`.
type relay struct {
	command *exec.Cmd
	log     *logBuffer
	exited  chan struct{}
	err     error
}

// startRelay starts `pg-tide --postgres-url dsn`, as the tutorial types it.
func startRelay(t *testing.T, dsn string, arguments ...string) *relay {
	t.Helper()
	return startRelayOf(t, built(t), dsn, arguments...)
}

func startRelayOf(t *testing.T, binary, dsn string, arguments ...string) *relay {
	t.Helper()
	command := exec.Command(binary, append([]string{"--postgres-url", dsn}, arguments...)...)
	command.Env = append(os.Environ(), "PG_TIDE_LOG_FORMAT=json")
	return startProcess(t, "the relay on "+dsn, command)
}

// startProcess runs a command until the end of the test at most.
func startProcess(t *testing.T, what string, command *exec.Cmd) *relay {
	t.Helper()
	r := &relay{command: command, log: newLogBuffer(), exited: make(chan struct{})}
	command.Stdout, command.Stderr = r.log, r.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.err = command.Wait()
		close(r.exited)
	}()
	t.Cleanup(func() {
		r.kill(t)
		if t.Failed() {
			t.Logf("output of %s:\n%s", what, r.log.String())
		}
	})
	return r
}

// kill ends the relay as a crash would.
func (r *relay) kill(t *testing.T) {
	t.Helper()
	r.signal(t, syscall.SIGKILL)
	<-r.exited
}

// stop asks the relay to end and returns how long that took.
func (r *relay) stop(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	r.signal(t, syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(patience):
		t.Fatalf("the relay did not end within %s of SIGTERM", patience)
	}
	if r.err != nil {
		t.Errorf("the relay ended with %v after SIGTERM", r.err)
	}
	return time.Since(start)
}

func (r *relay) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := r.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("send %s to the relay: %v", signal, err)
	}
}

// address waits for the relay to say where it serves HTTP.
func (r *relay) address(t *testing.T) string {
	t.Helper()
	return r.log.await(t, regexp.MustCompile(`"address":"([^"]+)"`))
}

// logBuffer keeps what a process prints and wakes whoever waits for a line.
type logBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newLogBuffer() *logBuffer { return &logBuffer{changed: make(chan struct{})} }

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await returns the first group of pattern once the text has it.
func (b *logBuffer) await(t *testing.T, pattern *regexp.Regexp) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		b.mu.Lock()
		found := pattern.FindStringSubmatch(b.text.String())
		changed := b.changed
		b.mu.Unlock()
		if found != nil {
			return found[1]
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("no line matches %s in:\n%s", pattern, b.String())
		}
	}
}

// newCommand is a call of the built binary.
func newCommand(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), built(t), arguments...)
}
