package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cloudEvent is what a line of JSON says, as far as the tests look.
type cloudEvent struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		OrderID string `json:"order_id"`
	} `json:"data"`
}

// once reads lines of JSON and returns "order_id type" of each event the first
// time that its id occurs.
func once(t *testing.T, text []byte) []string {
	t.Helper()
	var all []string
	seen := map[string]bool{}
	for line := range bytes.Lines(text) {
		var e cloudEvent
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("the line %q is no event: %v", line, err)
		}
		if !seen[e.ID] {
			all = append(all, e.Data.OrderID+" "+e.Type)
		}
		seen[e.ID] = true
	}
	return all
}

// The file holds all events in order while the relay is killed and the file is
// moved away, and no line of it is torn.
func TestFileHoldsAllEventsAcrossKillsAndRotation(t *testing.T) {
	t.Parallel()
	b := newBus(t, "nats://127.0.0.1:1")
	path := filepath.Join(t.TempDir(), "orders.jsonl")
	b.orders.execute(t, `select tide.relay_set_outbox('orders-to-file', 'order_events',
		jsonb_build_object('sink_type', 'file', 'path', $1::text, 'batch_size', 10))`, path)
	want := []string{"ORD-001 order.created"}
	for i := range 400 {
		id := fmt.Sprintf("ORD-%04d", 1000+i)
		b.order(t, id, "order.created")
		want = append(want, id+" order.created")
	}
	size := func(at string) int {
		text, _ := os.ReadFile(at) // none is an empty one
		return bytes.Count(text, []byte("\n"))
	}
	r := startRelay(t, b.orders.dsn)
	moved := 0
	for _, n := range []int{50, 150} {
		eventually(t, func() (bool, string) {
			return moved+size(path) >= n, fmt.Sprintf("%d lines; status: %s", n, b.orders.status(t))
		})
		r.kill(t)
		moved = 0
		if err := os.Rename(path, path+fmt.Sprint(n)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		moved = size(path + "50")
		r = startRelay(t, b.orders.dsn)
	}
	var got []string
	eventually(t, func() (bool, string) {
		var text []byte
		for _, at := range []string{path + "50", path + "150", path} {
			part, _ := os.ReadFile(at) // none is an empty one
			if len(part) > 0 && at != path && part[len(part)-1] != '\n' {
				part = part[:bytes.LastIndexByte(part, '\n')+1] // it was moved before anybody could mend it
			}
			text = append(text, part[:bytes.LastIndexByte(part, '\n')+1]...)
		}
		got = once(t, text)
		return len(got) >= len(want), fmt.Sprintf("%d of %d events; status: %s", len(got), len(want), b.orders.status(t))
	})
	if !slices.Equal(got, want) {
		t.Errorf("the files hold %d events, want %d in order", len(got), len(want))
	}
}

// Two relays and a pipe between them make a bus.
func TestAPipeLeadsFromOneDatabaseToAnother(t *testing.T) {
	t.Parallel()
	b := newBus(t, "nats://127.0.0.1:1")
	b.orders.execute(t, `select tide.relay_set_outbox('look', 'order_events', '{"sink_type": "stdout"}')`)
	b.payments.execute(t, `select tide.relay_set_inbox('feed', 'payment_triggers', '{"source_type": "stdin"}')`)
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	run := func(dsn string, in io.Reader, out io.Writer) *relay {
		command := exec.Command(built(t), "--postgres-url", dsn)
		r := &relay{command: command, log: newLogBuffer(), exited: make(chan struct{})}
		command.Stdin, command.Stdout, command.Stderr = in, out, r.log
		if out == nil {
			command.Stdout = r.log
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			r.err = command.Wait()
			close(r.exited)
		}()
		t.Cleanup(func() { r.kill(t) })
		return r
	}
	reader := run(b.payments.dsn, from, nil)
	writer := run(b.orders.dsn, nil, to)
	_, _ = from.Close(), to.Close() // the children have them
	want := []string{"ORD-001 order.created"}
	for i := range 200 {
		id := fmt.Sprintf("ORD-%04d", 1000+i)
		b.order(t, id, "order.created")
		want = append(want, id+" order.created")
	}
	if got := b.payments.arrived(t, "payment_triggers", len(want)); !slices.Equal(got, want) {
		t.Errorf("%d messages came through the pipe, want %d in order", len(got), len(want))
	}
	b.checkFirstOrder(t)
	writer.stop(t)
	b.payments.awaitStatus(t, "feed", `r.reason like '%standard input has ended; all of its%'`)
	reader.stop(t)
	if text := reader.log.String(); strings.Contains(text, "panic") {
		t.Error(text)
	}
}
