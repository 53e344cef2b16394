package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen; silence is how long nothing may.
const (
	patience = 30 * time.Second
	silence  = 200 * time.Millisecond
)

// echo answers each line with the same line, and tells of each connection's end.
type echo struct {
	listener net.Listener
	ended    chan struct{}
	done     chan struct{}
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{listener: listener, ended: make(chan struct{}, 100), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
				e.ended <- struct{}{}
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-e.done
	})
	return e
}

func start(t *testing.T) (*echo, *proxy.Proxy) {
	t.Helper()
	e := newEcho(t)
	p, err := proxy.Start(t.Context(), e.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return e, p
}

func dial(t *testing.T, p *proxy.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn net.Conn, within time.Duration) error {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "hello\n" {
		t.Errorf("heard %q", line)
	}
	return err
}

func TestPassesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	_, p := start(t)
	conn := dial(t, p)
	say(t, conn)
	if err := hear(t, conn, patience); err != nil {
		t.Error(err)
	}
}

func TestCutEndsConnectionsAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	e, p := start(t)
	conn := dial(t, p)
	say(t, conn)
	if err := hear(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	p.Set(proxy.State{Cut: true})
	if err := hear(t, conn, patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection goes on: %v", err)
	}
	<-e.ended
	if err := hear(t, dial(t, p), patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a new connection is not refused: %v", err)
	}
	p.Set(proxy.State{})
	conn = dial(t, p)
	say(t, conn)
	if err := hear(t, conn, patience); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

func TestSilenceHoldsBackAndLosesNothing(t *testing.T) {
	t.Parallel()
	_, p := start(t)
	conn := dial(t, p)
	say(t, conn)
	if err := hear(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	p.Set(proxy.State{Silent: true})
	say(t, conn)
	if err := hear(t, conn, silence); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard something in the silence: %v", err)
	}
	p.Set(proxy.State{})
	if err := hear(t, conn, patience); err != nil {
		t.Errorf("after the silence: %v", err)
	}
}

func TestHalfOpenTellsTheServerAndNotTheClient(t *testing.T) {
	t.Parallel()
	e, p := start(t)
	conn := dial(t, p)
	say(t, conn)
	if err := hear(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	p.Set(proxy.State{HalfOpen: true})
	<-e.ended
	say(t, conn)
	if err := hear(t, conn, silence); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client is told: %v", err)
	}
	p.Set(proxy.State{})
	if err := hear(t, conn, patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("afterwards the connection goes on: %v", err)
	}
}

func TestDelayIsAdded(t *testing.T) {
	t.Parallel()
	_, p := start(t)
	p.Set(proxy.State{Delay: 100 * time.Millisecond})
	conn := dial(t, p)
	begin := time.Now()
	say(t, conn)
	if err := hear(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("there and back took %s", took)
	}
}
