package natstest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Fate is what becomes of a published message, and of its connection.
type Fate int

// What can become of a message.
const (
	// PassOn sends it to the server.
	PassOn Fate = iota
	// CutBefore cuts the connection, and the server never sees it.
	CutBefore
	// CutAfter sends it, and cuts the connection before any answer comes back.
	CutAfter
)

// Script says what a proxy does between a client and a server.
type Script struct {
	// Version is what the server is said to be; empty leaves its own.
	Version string
	// Published is asked about each message with headers, which it gets as text.
	// It may do anything to the server first.
	Published func(headers string) Fate
}

// Between runs a proxy in front of the server until the test ends, and returns
// where clients connect.
func Between(t testing.TB, server *Server, script Script) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port()))
	over := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { script.join(client, to, over) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close() // the test is over
		close(over)
		all.Wait()
	})
	return "nats://" + listener.Addr().String()
}

func (s *Script) join(client net.Conn, to string, over <-chan struct{}) {
	defer func() { _ = client.Close() }() // may be closed already
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	ended := make(chan struct{}, 2)
	var copies sync.WaitGroup
	copies.Go(func() {
		s.up(server, bufio.NewReader(client), client)
		ended <- struct{}{}
	})
	copies.Go(func() {
		s.down(client, bufio.NewReader(server))
		ended <- struct{}{}
	})
	select {
	case <-ended:
	case <-over:
	}
	_, _ = client.Close(), server.Close() // both copies end by it
	copies.Wait()
}

// down passes what the server says, and its version as the script has it.
func (s *Script) down(client io.Writer, server *bufio.Reader) {
	if s.Version == "" {
		_, _ = io.Copy(client, server) // its end is all that matters
		return
	}
	for {
		line, body, err := readProtocol(server)
		if err != nil {
			return
		}
		if before, after, found := bytes.Cut(line, []byte(`"version":"`)); found && bytes.HasPrefix(line, []byte("INFO ")) {
			_, rest, _ := bytes.Cut(after, []byte(`"`))
			line = fmt.Appendf(nil, `%s"version":"%s"%s`, before, s.Version, rest)
		}
		if _, err := client.Write(append(line, body...)); err != nil {
			return
		}
	}
}

// up passes what the client says, messages by the script.
func (s *Script) up(server io.Writer, client *bufio.Reader, connection io.Closer) {
	for {
		line, err := client.ReadBytes('\n')
		if err != nil {
			return
		}
		whole, fate := line, PassOn
		if fields := strings.Fields(string(line)); len(fields) > 2 && (fields[0] == "PUB" || fields[0] == "HPUB") {
			size, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return
			}
			body := make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(client, body); err != nil {
				return
			}
			whole = slices.Concat(line, body)
			if headers, err := strconv.Atoi(fields[len(fields)-2]); fields[0] == "HPUB" && err == nil && s.Published != nil {
				fate = s.Published(string(body[:headers]))
			}
		}
		if fate == CutBefore {
			return
		}
		if fate == CutAfter {
			_ = connection.Close() // so that no answer passes
		}
		if _, err := server.Write(whole); err != nil || fate == CutAfter {
			return
		}
	}
}
