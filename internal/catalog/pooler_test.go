package catalog

import (
	"bytes"
	"encoding/binary"

	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// pooler passes connections through and, as poolers do, makes up the number
// of the server process that it tells its clients.
func pooler(t *testing.T, dsn string) (through string) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	var wait sync.WaitGroup
	t.Cleanup(func() { listener.Close(); wait.Wait() })
	wait.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			wait.Go(func() { io.Copy(backend, client); backend.Close() })
			wait.Go(func() { disguise(client, backend); client.Close() })
		}
	})
	return strings.Replace(dsn, server, listener.Addr().String(), 1) + "&sslmode=disable"
}

// disguise copies the server's messages and changes the process number in the
// one that carries it.
func disguise(client io.Writer, backend io.Reader) {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(backend, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(backend, body); err != nil {
			return
		}
		if head[0] == 'K' {
			binary.BigEndian.PutUint32(body, 4711)
		}
		client.Write(append(bytes.Clone(head), body...))
	}
}

// heard is a log that tests read.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) has(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Contains(h.text.String(), text)
}

func TestBehindAPoolerTheRelayPollsAndSaysSo(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	if !strings.Contains(dsn, "?") {
		dsn += "?"
	}
	unowned(t, pool, "o1")
	log := &heard{}
	c, err := Open(t.Context(), Options{ConnString: pooler(t, dsn), Relay: RelayInfo{ID: relayA},
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	eventually(t, "it says that it polls", func() bool { return log.has("pooler") })
	nap := c.Gate().Nap("o1")
	for range lingering + 1 {
		if err := nap.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if nap.state != lockUnavailable {
		t.Errorf("a nap in state %d behind a pooler", nap.state)
	}
	nap.Close()
	heartbeat(t, c)
	awaitChange(t, c)
	schematest.Exec(t, pool, "select tide.relay_disable('o1-out')")
	eventually(t, "the change is noticed", func() bool {
		awaitChange(t, c)
		names, _ := heartbeat(t, c)
		return len(names) == 0
	})
}
