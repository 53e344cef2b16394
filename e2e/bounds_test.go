package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// loops is how many outboxes there are, each with a pipeline to the broker and
// one from there into an inbox: twenty pipelines for one relay.
const loops = 10

// A relay with twenty pipelines goes through crashes of broker and database
// and needs no more memory, goroutines, connections and file descriptors than
// before; and it does not fill the log.
func TestARelayStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	const most = 150 // MiB
	broker := startBroker(t)
	server, s, _ := ownServer(t, nil)
	s.addLoops(t, broker.URL())
	binary := filepath.Join(t.TempDir(), "pg-tide") // the race detector has a memory of its own
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../cmd/pg-tide").CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	r := startRelayOf(t, binary, s.dsn)
	sent := 0
	publish := func() {
		t.Helper()
		s.execute(t, `select count(tide.outbox_publish('o' || i % $1, null, jsonb_build_object('n', i, 'pad', repeat('x', 1000))))
			from generate_series(1, 2000) i`, loops)
		sent += 2000
	}
	arrived := func() {
		t.Helper()
		eventually(t, func() (bool, string) {
			got := one[int](t, s, `select count(*) from tide.inbox_message`)
			return got == sent, fmt.Sprintf("%d of %d events went round; status: %s", got, sent, s.status(t))
		})
		s.awaitAllRunning(t)
	}
	faults := func() {
		t.Helper()
		broker.Kill(t)
		publish()
		s.await(t, `count(*) = 0`, `r.state = 'running'`)
		broker.Start(t)
		arrived()
		if err := server.Crash(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() (bool, string) { return r.answers(t, "/readyz", 503), "/readyz is not 503" })
		crash(t, server, server.Crash, s)
		publish()
		arrived()
	}
	publish()
	arrived()
	faults() // whatever is made once is made
	before := r.uses(t)
	for range 2 {
		faults()
	}
	eventually(t, func() (bool, string) {
		after := r.uses(t)
		for what, n := range after {
			if n > before[what]+before[what]/10+5 {
				return false, fmt.Sprintf("before %v, after two more rounds of faults %v", before, after)
			}
		}
		t.Logf("before %v, after two more rounds of faults %v", before, after)
		return true, ""
	})
	peak := peakMemory(t, r.command.Process.Pid)
	t.Logf("the relay's peak was %d MiB", peak)
	if peak > most {
		t.Errorf("the relay took %d MiB at its peak with %d pipelines under faults; the most is %d", peak, 2*loops, most)
	}
	r.checkLog(t)
}

func (s *service) addLoops(t *testing.T, url string) {
	t.Helper()
	for i := range loops {
		o, in := fmt.Sprintf("o%d", i), fmt.Sprintf("i%d", i)
		s.execute(t, `select tide.outbox_create($1)`, o)
		s.execute(t, `select tide.inbox_create($1)`, in)
		s.execute(t, `select tide.relay_set_outbox($1, $1, $2::jsonb)`, o, fmt.Sprintf(`{"sink_type": "nats", "url": %q, "subject": "loop.%s"}`, url, o))
		s.execute(t, `select tide.relay_set_inbox($1, $1, $2::jsonb)`, in, fmt.Sprintf(`{"source_type": "nats", "url": %q, "subject": "loop.%s", "durable_name": %q}`, url, o, in))
	}
}

// await waits until an aggregate over those rows of tide.relay_status holds.
func (s *service) await(t *testing.T, aggregate, rows string) {
	t.Helper()
	eventually(t, func() (bool, string) {
		return one[bool](t, s, `select `+aggregate+` from tide.relay_status r where `+rows), aggregate + " of " + rows + "; status: " + s.status(t)
	})
}

func (s *service) awaitAllRunning(t *testing.T) {
	t.Helper()
	s.await(t, fmt.Sprintf(`count(*) = %d`, 2*loops), `r.state = 'running'`)
}

var gauge = regexp.MustCompile(`(?m)^(go_goroutines|process_open_fds) (\S+)$`)

// uses is what the relay says that it uses, and the sessions that it has.
func (r *relay) uses(t *testing.T) map[string]int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + r.address(t) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var text strings.Builder
	if _, err := bufio.NewReader(answer.Body).WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	uses := map[string]int{}
	for _, found := range gauge.FindAllStringSubmatch(text.String(), -1) {
		n, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		uses[found[1]] = int(n)
	}
	if len(uses) != 2 {
		t.Fatalf("the metrics lack goroutines or file descriptors: %v", uses)
	}
	return uses
}

var digits = regexp.MustCompile(`[0-9]+`)

// checkLog looks whether a line was said again within a second. Lines are the
// same that differ in their numbers only, other than in the names of things.
func (r *relay) checkLog(t *testing.T) {
	t.Helper()
	latest, lines := map[string]time.Time{}, 0
	for line := range strings.SplitSeq(strings.TrimSpace(r.log.String()), "\n") {
		var said struct {
			Time                                        time.Time
			Msg, Pipeline, Stream, State, Reason, Error string
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Errorf("a line of the log is no JSON: %s", line)
			continue
		}
		lines++
		what := said.Pipeline + "|" + said.Stream + "|" + said.State + "|" + digits.ReplaceAllString(said.Msg+"|"+said.Reason+"|"+said.Error, "0")
		// The log's own clock may be a few milliseconds late, and be set meanwhile.
		if since := said.Time.Sub(latest[what]); !latest[what].IsZero() && since >= 0 && since < 950*time.Millisecond {
			t.Errorf("said again after %s: %s", since, line)
		}
		latest[what] = said.Time
	}
	t.Logf("%d lines of log", lines)
}
