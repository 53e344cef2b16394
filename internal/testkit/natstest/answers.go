package natstest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Answers stands between a client and a server and does to the
// acknowledgements of published messages what a real server cannot be asked to:
// everything else passes as it is.
type Answers struct {
	listener net.Listener
	to       string
	// script is asked about each acknowledgement of a connection, in order.
	script func(connection, number int) Answer

	mu          sync.Mutex
	connections int
	done        sync.WaitGroup
}

// Answer is what becomes of one acknowledgement.
type Answer int

// What can become of an acknowledgement.
const (
	// Pass sends it on, behind those that are held.
	Pass Answer = iota
	// Hold keeps it until the next that passes, and then comes after it: the
	// last held first.
	Hold
	// Drop loses it.
	Drop
	// Refuse replaces it by an error, although the message is stored.
	Refuse
)

// ScriptAnswers runs a proxy in front of the server until the test ends.
func ScriptAnswers(t testing.TB, server *Server, script func(connection, number int) Answer) *Answers {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &Answers{listener: listener, to: net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port())), script: script}
	over := make(chan struct{})
	a.done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.connections++
			number := a.connections
			a.mu.Unlock()
			a.done.Go(func() { a.join(client, number, over) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close() // the test is over
		close(over)
		a.done.Wait()
	})
	return a
}

// URL is where clients connect.
func (a *Answers) URL() string { return "nats://" + a.listener.Addr().String() }

// Connections counts those that were made.
func (a *Answers) Connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.connections
}

func (a *Answers) join(client net.Conn, number int, over <-chan struct{}) {
	server, err := net.Dial("tcp", a.to)
	if err != nil {
		_ = client.Close() // the client sees it
		return
	}
	closed := make(chan struct{}, 2)
	var copies sync.WaitGroup
	copies.Go(func() {
		_, _ = io.Copy(server, client) // its end is all that matters
		closed <- struct{}{}
	})
	copies.Go(func() {
		a.answer(client, bufio.NewReader(server), number)
		closed <- struct{}{}
	})
	select {
	case <-closed:
	case <-over:
	}
	_, _ = client.Close(), server.Close() // both copies end by it
	copies.Wait()
}

// answer passes what the server says, acknowledgements by the script.
func (a *Answers) answer(client io.Writer, server *bufio.Reader, connection int) {
	var held [][]byte
	for number := 0; ; {
		line, body, err := readProtocol(server)
		if err != nil {
			return
		}
		whole := append(append([]byte{}, line...), body...)
		if !bytes.HasPrefix(body, []byte(`{"stream":`)) {
			if _, err := client.Write(whole); err != nil {
				return
			}
			continue
		}
		number++
		switch a.script(connection, number) {
		case Drop:
			continue
		case Hold:
			held = append(held, whole)
			continue
		case Refuse:
			whole = refusal(line)
		}
		for i := len(held) - 1; i >= 0; i-- {
			whole = append(whole, held[i]...)
		}
		held = nil
		if _, err := client.Write(whole); err != nil {
			return
		}
	}
}

// readProtocol reads one line of the server, and the message that it announces.
func readProtocol(server *bufio.Reader) (line, body []byte, err error) {
	if line, err = server.ReadBytes('\n'); err != nil {
		return nil, nil, err
	}
	fields := strings.Fields(string(line))
	if len(fields) < 4 || fields[0] != "MSG" && fields[0] != "HMSG" {
		return line, nil, nil
	}
	size, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return nil, nil, fmt.Errorf("read %q: %w", line, err)
	}
	body = make([]byte, size+len("\r\n"))
	_, err = io.ReadFull(server, body)
	return line, body, err
}

// refusal is an acknowledgement's line with an error of the server behind it.
func refusal(line []byte) []byte {
	const body = `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"","seq":0}`
	fields := strings.Fields(string(line))
	fields[len(fields)-1] = strconv.Itoa(len(body))
	return []byte(strings.Join(fields, " ") + "\r\n" + body + "\r\n")
}
