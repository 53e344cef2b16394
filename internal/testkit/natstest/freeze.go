package natstest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Freeze makes a server hang: its connections stay, and it does nothing, until
// Thaw. When it returns, all of the server has stopped: the signal alone leaves
// it the time to answer what just came.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	Eventually(t, "the server stops", func() bool { return stopped(s.running.cmd.Process.Pid) })
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw(t testing.TB) { s.signal(t, syscall.SIGCONT) }

// stopped says whether no thread of a process runs. Where the system does not
// tell, it is taken to be so.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return true
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		// the state stands behind the name, which may hold anything
		if _, state, found := bytes.Cut(text, []byte(") ")); err == nil && found && state[0] != 'T' {
			return false
		}
	}
	return true
}

func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if s.running == nil {
		t.Fatal("only a running server takes signals")
	}
	if err := s.running.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("send %s to the NATS server: %v", signal, err)
	}
}
