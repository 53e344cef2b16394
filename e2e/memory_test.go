package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// TestABacklogDoesNotShowInMemory starts the relay behind many events of 1 KiB,
// twice as much as it may ever have in memory.
func TestABacklogDoesNotShowInMemory(t *testing.T) {
	t.Parallel()
	const events, most = 300_000, 150 // MiB
	broker := startBroker(t)
	orders := newService(t)
	orders.execute(t, `create extension pg_tide`)
	orders.execute(t, `select tide.outbox_create('big')`)
	orders.execute(t, `select tide.relay_set_outbox('big-to-nats', 'big', jsonb_build_object('sink_type', 'nats', 'url', $1::text))`, broker.URL())
	orders.execute(t, `
		insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
		select o.part, gen_random_uuid(), 'big', 'k' || i % 100, 'insert', jsonb_build_object('n', i, 'pad', repeat('x', 1000)), '{}'
		from tide.outbox o, generate_series(1, $1::bigint) i
		where o.name = 'big'`, events)

	binary := filepath.Join(t.TempDir(), "pg-tide") // the race detector has a memory of its own
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../cmd/pg-tide").CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	r := startRelayOf(t, binary, orders.dsn)
	js := broker.server.JetStream(t)
	// Each quarter has the whole patience: how fast is not the question here.
	for part := uint64(1); part <= 4; part++ {
		eventually(t, func() (bool, string) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			name, err := js.StreamNameBySubject(ctx, "big.insert")
			if err != nil {
				return false, err.Error()
			}
			stream, err := js.Stream(ctx, name)
			if err != nil {
				return false, err.Error()
			}
			stored := stream.CachedInfo().State.Msgs
			return stored >= events*part/4, fmt.Sprintf("%d of %d events are in the stream", stored, events)
		})
	}
	peak := peakMemory(t, r.command.Process.Pid)
	t.Logf("the relay's peak was %d MiB", peak)
	if peak > most {
		t.Errorf("the relay took %d MiB at its peak with %d events behind; the most is %d", peak, events, most)
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most resident memory that a process ever had, in MiB.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("this system does not tell a process's peak memory: %v", err)
	}
	found := highWater.FindSubmatch(text)
	if found == nil {
		t.Fatal("no VmHWM in the process's status")
	}
	kilobytes, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes / 1024
}
