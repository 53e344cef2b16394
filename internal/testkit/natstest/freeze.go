package natstest

import (
	"syscall"
	"testing"
)

// Freeze makes a server hang: its connections stay, and it does nothing, until
// Thaw.
func (s *Server) Freeze(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if s.running == nil {
		t.Fatal("only a running server takes signals")
	}
	if err := s.running.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("send %s to the NATS server: %v", signal, err)
	}
}
