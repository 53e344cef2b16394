package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// clockBinary is the command with a wall clock that a file sets, made once.
var clockBinary = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(work, "clock")
	path := filepath.Join(dir, "pg-tide")
	for _, arguments := range [][]string{
		{"run", "../internal/torture/clock", "-dir", dir},
		{"build", "-overlay", filepath.Join(dir, "overlay.json"), "-tags", "tide_clock", "-o", path, "../cmd/pg-tide"},
	} {
		if out, err := exec.Command("go", arguments...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", arguments[0], err, out)
		}
	}
	return path, nil
})

// clocked is a relay whose wall clock can be set.
type clocked struct {
	*relay
	file string
}

func startClocked(t *testing.T, dsn string) *clocked {
	t.Helper()
	binary, err := clockBinary()
	if err != nil {
		t.Fatal(err)
	}
	c := &clocked{file: filepath.Join(t.TempDir(), "clock")}
	command := exec.Command(binary, "--postgres-url", dsn)
	command.Env = append(os.Environ(), "PG_TIDE_LOG_FORMAT=json", "PG_TIDE_CLOCK_FILE="+c.file)
	c.relay = startProcess(t, "the relay on "+dsn, command)
	return c
}

// set sets the clock off by so much, and waits until it is.
func (c *clocked) set(t *testing.T, by time.Duration) {
	t.Helper()
	seconds := strconv.Itoa(int(by / time.Second))
	fresh := c.file + ".new" // whole, whenever it is read
	if err := os.WriteFile(fresh, []byte(seconds), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, c.file); err != nil {
		t.Fatal(err)
	}
	c.log.await(t, regexp.MustCompile(`(the wall clock is off by `+regexp.QuoteMeta(seconds)+` s)`))
}

// The relays' wall clock jumps three hours forward, then to three hours back,
// while events flow: the pipelines are kept, everything arrives once and in
// order, and no age or rate is what the wrong clock would make of it.
func TestAClockThatJumpsCostsNothing(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	f := newTraffic(t, extended(t), extended(t), broker.URL(), "")
	relays := map[*service]*clocked{f.orders: startClocked(t, f.orders.dsn), f.payments: startClocked(t, f.payments.dsn)}
	f.write(t, 3)
	f.awaitMore(t, 50)
	const owned = `select string_agg(pipeline_id || ':' || fence, ' ' order by pipeline_id) from tide.pipeline_owner where relay_id is not null`
	before := map[*service]string{}
	for s := range relays {
		before[s] = one[string](t, s, owned)
	}
	for _, by := range []time.Duration{3 * time.Hour, -3 * time.Hour} {
		for _, r := range relays {
			r.set(t, by)
		}
		f.awaitMore(t, 50)
		broker.Kill(t)
		f.orders.awaitStatus(t, ordersPipeline, `r.state = 'waiting'`)
		f.payments.awaitStatus(t, paymentsPipeline, `r.state = 'waiting'`)
		broker.Start(t)
		f.awaitMore(t, 200)
		for s, r := range relays {
			s.awaitStatus(t, one[string](t, s, `select p.name from tide.pipeline p`), `r.state = 'running' and r.rate_per_second between 0.1 and 100000
				and abs(extract(epoch from clock_timestamp() - r.last_error_at)) < 900 and coalesce(r.lag_seconds, 0) between 0 and 900`)
			if strings.Contains(r.log.String(), "heartbeat failed") {
				continue // a machine that is too busy costs a lease, too
			}
			if after := one[string](t, s, owned); after != before[s] {
				t.Errorf("a clock off by %s: pipelines with their fences before %s, after %s", by, before[s], after)
			}
			if strings.Contains(r.log.String(), "pipelines dropped") {
				t.Errorf("a clock off by %s: the relay dropped its pipelines", by)
			}
		}
	}
	for _, r := range relays {
		r.set(t, 0)
	}
	f.settled(t)
}
