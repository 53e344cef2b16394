package e2e

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// line is a connection to a broker that can lose what clients send, break, and
// be mended.
type line struct {
	listener net.Listener
	to       string
	done     sync.WaitGroup

	mu       sync.Mutex
	broken   bool
	swallows bool
	lost     bytes.Buffer
	open     map[net.Conn]bool
}

func startLine(t *testing.T, b *broker) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener, to: net.JoinHostPort("127.0.0.1", strconv.Itoa(b.server.Port())), open: map[net.Conn]bool{}}
	l.done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			l.done.Go(func() { l.join(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close() // the test is over
		l.cut()
		l.done.Wait()
	})
	return l
}

func (l *line) URL() string { return "nats://" + l.listener.Addr().String() }

func (l *line) join(client net.Conn) {
	defer client.Close()
	if !l.opened(client) {
		return
	}
	server, err := net.Dial("tcp", l.to)
	if err != nil {
		return // the client sees its connection end
	}
	defer server.Close()
	l.done.Go(func() {
		_, _ = io.Copy(client, server) // its end is all that matters
		client.Close()
	})
	l.carry(server, client)
}

// opened keeps a connection to be cut; false while none may be made.
func (l *line) opened(client net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[client] = true
	return !l.broken
}

// carry passes what the client sends, or loses it.
func (l *line) carry(server, client net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := client.Read(buffer)
		if n > 0 && !l.loses(buffer[:n]) {
			_, err = server.Write(buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

func (l *line) loses(sent []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.swallows {
		l.lost.Write(sent)
	}
	return l.swallows
}

// swallow loses whatever clients send from now on.
func (l *line) swallow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swallows = true
}

// swallowed counts a word in what is lost.
func (l *line) swallowed(word string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.lost.Bytes(), []byte(word))
}

// cut breaks all connections and lets nobody make one.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
	for client := range l.open {
		client.Close()
	}
	clear(l.open)
}

// mend lets connections be made, and loses nothing any more.
func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken, l.swallows = false, false
}
