package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pg-tide/pg-tide/tide"
)

// Exit codes of a worker's program, those of sysexits.h.
const (
	exitDataErr  = 65
	exitTempFail = 75

	// notNow is how long a message rests whose program ended with exitTempFail.
	notNow = time.Minute
	// keptOfStderr is how much of what a program says last is kept with its message.
	keptOfStderr = 2000
	// shownOfOutput is how much of the end of what a program writes is kept until
	// it ends, to be shown; of its standard error and its output each.
	shownOfOutput = 64 << 10
	// mostVariable is the longest setting of an environment that Linux takes,
	// name and end included. With a longer one no program is started at all.
	mostVariable = 128<<10 - 1
	// leftOutVariable names those that were too long.
	leftOutVariable = "PG_TIDE_LEFT_OUT"
	// killPatience is how long a program has after SIGTERM.
	killPatience = 2 * time.Second
)

// eachMessage runs a program for each message.
type eachMessage struct {
	command  string
	whole    bool
	out, err io.Writer
	mu       sync.Mutex // so that lines of programs that run at once do not mix
}

func (e *eachMessage) run(ctx context.Context, m *tide.Message) error {
	said := &tail{most: shownOfOutput}
	err := e.runTo(ctx, m, said)
	e.show(nil, said.shown())
	return verdictOf(err, said.kept)
}

// runTo runs the program; what it says on its standard error goes to said.
func (e *eachMessage) runTo(ctx context.Context, m *tide.Message, said io.Writer) error {
	input := []byte(m.Payload)
	if e.whole {
		var err error
		if input, err = json.Marshal(wholeMessage(m)); err != nil {
			return tide.Discard(fmt.Errorf("encode the message: %w", err))
		}
	}
	settings, leftOut := environment(m)
	if len(leftOut) > 0 {
		fmt.Fprintf(said, "message %d (event %s) is too long for the environment in %s, which was left out; --message has all of it on the program's input\n",
			m.ID, m.EventID, strings.Join(leftOut, ", "))
	}
	out := &tail{most: shownOfOutput}
	c := exec.CommandContext(ctx, "/bin/sh", "-c", e.command)
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(input), out, said
	c.Env = append(os.Environ(), settings...)
	// The program and what it started: a shell does not pass signals on.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = killPatience
	err := c.Run()
	e.show(out.shown(), nil)
	return err
}

// verdictOf says what a program's end means for its message.
func verdictOf(err error, said []byte) error {
	if err == nil {
		return nil
	}
	last := strings.TrimSpace(string(said[max(0, len(said)-keptOfStderr):]))
	failure := fmt.Errorf("%w: %s", err, last)
	if last == "" {
		failure = err
	}
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		switch ended.ExitCode() {
		case exitDataErr:
			return tide.Discard(failure)
		case exitTempFail:
			return tide.Snooze(notNow)
		}
	}
	return failure
}

func (e *eachMessage) show(out, said []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, _ = e.out.Write(out) // who does not read it does not want it
	_, _ = e.err.Write(said)
}

// tail keeps the end of what is written to it, so that a program that writes
// without end does not take the worker's memory.
type tail struct {
	most    int
	kept    []byte
	dropped int
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b[max(0, len(b)-t.most):]...)
	t.dropped += max(0, len(b)-t.most)
	// Moved only now and then: a program may write byte by byte.
	if over := len(t.kept) - t.most; over > t.most {
		t.dropped += over
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}

// shown is the end, and before it how much is not there.
func (t *tail) shown() []byte {
	over := max(0, len(t.kept)-t.most)
	if t.dropped+over == 0 {
		return t.kept
	}
	return append(fmt.Appendf(nil, "[%d bytes before this are not shown]\n", t.dropped+over), t.kept[over:]...)
}

// environment is what a program finds, and the names of what is too long for it.
func environment(m *tide.Message) (settings, leftOut []string) {
	for _, s := range [][2]string{{"PG_TIDE_INBOX", m.Inbox}, {"PG_TIDE_EVENT_ID", m.EventID}, {"PG_TIDE_EVENT_TYPE", m.Type}, {"PG_TIDE_SOURCE", m.Source},
		{"PG_TIDE_STREAM", m.Stream}, {"PG_TIDE_KEY", m.Key}, {"PG_TIDE_OP", m.Op}, {"PG_TIDE_ATTEMPTS", strconv.Itoa(m.Attempts)},
		{"PG_TIDE_HEADERS", string(m.Headers)}} {
		if setting := s[0] + "=" + s[1]; len(setting) < mostVariable {
			settings = append(settings, setting)
		} else {
			leftOut = append(leftOut, s[0])
		}
	}
	return append(settings, leftOutVariable+"="+strings.Join(leftOut, " ")), leftOut
}

// wholeMessage has the names of the inbox's columns.
func wholeMessage(m *tide.Message) map[string]any {
	headers := m.Headers
	if len(headers) == 0 {
		headers = json.RawMessage("{}")
	}
	var key any
	if m.Key != "" {
		key = m.Key
	}
	return map[string]any{"id": m.ID, "event_id": m.EventID, "source": m.Source, "stream": m.Stream, "key": key, "op": m.Op,
		"event_type": m.Type, "payload": m.Payload, "headers": headers, "received_at": m.ReceivedAt, "attempts": m.Attempts}
}
