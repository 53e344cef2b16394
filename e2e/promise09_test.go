package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
)

// One owner: two relays on one pipeline never publish at once beyond a fenced
// hand-over.

func TestPromise09TakeOverWithin10SecondsOfACrash(t *testing.T) {
	t.Parallel()
	f := newTraffic(t, extended(t), extended(t), startBroker(t).URL(), "")
	pairs := map[*service][2]*relay{f.orders: pairOn(t, f.orders), f.payments: pairOn(t, f.payments)}
	f.write(t, 2)
	for s := range pairs {
		s.savedBy(t, "first", time.Time{})
	}
	for _, pair := range pairs {
		pair[0].kill(t)
	}
	for s := range pairs {
		gap := s.savedBy(t, "second", time.Time{}).Sub(s.lastSave(t, "first"))
		t.Logf("take-over after %s", gap)
		if gap > 10*time.Second {
			t.Errorf("take-over after SIGKILL took %s, the promise is 10 s", gap)
		}
	}
	f.settled(t)
}

func TestPromise09TakeOverWithin2SecondsOfAGoodEnd(t *testing.T) {
	t.Parallel()
	f := newTraffic(t, extended(t), extended(t), startBroker(t).URL(), "")
	pairs := map[*service][2]*relay{f.orders: pairOn(t, f.orders), f.payments: pairOn(t, f.payments)}
	f.write(t, 2)
	for s := range pairs {
		s.savedBy(t, "first", time.Time{})
	}
	for s, pair := range pairs {
		pair[0].stop(t)
		gap := s.savedBy(t, "second", time.Time{}).Sub(s.lastSave(t, "first"))
		t.Logf("take-over after %s", gap)
		if gap > 2*time.Second {
			t.Errorf("take-over after SIGTERM took %s, the promise is 2 s", gap)
		}
	}
	f.settled(t)
}

// pairOn starts a relay that owns the service's pipeline and one that waits.
func pairOn(t *testing.T, s *service) [2]*relay {
	t.Helper()
	a := startRelay(t, named(t, s.dsn, "first"))
	eventually(t, func() (bool, string) {
		return one[int](t, s, `select count(*) from tide.pipeline_owner where relay_id is not null`) == 1, "the first relay owns the pipeline"
	})
	b := startRelay(t, named(t, s.dsn, "second"))
	s.awaitRelays(t, 2)
	return [2]*relay{a, b}
}

// The owner is stopped in the midst of a flood for longer than its lease and
// wakes when another is at work. What it had read must not go out any more,
// except for what lay in its connection's buffers already.
func TestPromise09AnOwnerThatWakesUpMovesNothing(t *testing.T) {
	t.Parallel()
	monitor := freeAddress(t)
	broker := natstest.Start(t, natstest.Options{Extra: fmt.Sprintf("http: %q", monitor)})
	f := newTraffic(t, extended(t), extended(t), broker.URL(), `, "batch_size": 2000`)
	orders, payments := pairOn(t, f.orders), pairOn(t, f.payments)
	f.write(t, 2)
	f.backlog(t, 20_000)
	since := one[time.Time](t, f.orders, `select clock_timestamp()`)
	f.orders.savedBy(t, "first", since)
	orders[0].signal(t, syscall.SIGSTOP)
	payments[0].signal(t, syscall.SIGSTOP)
	left := one[int](t, f.orders, `select sum(lag_events) from tide.relay_status`)

	taken := f.orders.savedBy(t, "second", time.Time{})
	f.payments.savedBy(t, "second", time.Time{})
	before := publishedBy(t, monitor)
	orders[0].signal(t, syscall.SIGCONT)
	payments[0].signal(t, syscall.SIGCONT)
	// The first has noticed when it says so in the database.
	f.orders.awaitRelays(t, 2)
	f.payments.awaitRelays(t, 2)
	eventually(t, func() (bool, string) {
		return len(openSinks(t, monitor)) == 1, fmt.Sprintf("connections of sinks: %v", openSinks(t, monitor))
	})
	for id, after := range publishedBy(t, monitor) {
		if openSinks(t, monitor)[id] {
			continue
		}
		t.Logf("the first relay had %d events to go when it was stopped; it published %d messages before, and %d on waking up", left, before[id], after-before[id])
		// 32 KiB of buffer in the client, and the event that was on its way there
		if more := after - before[id]; more > 150 {
			t.Errorf("the first relay published %d messages after it woke up", more)
		}
	}
	f.settled(t)
	for _, s := range []*service{f.orders, f.payments} {
		if late := one[int](t, s, `select count(*) from saves where relay = 'first' and at > (select min(at) from saves where relay = 'second')`); late > 0 {
			t.Errorf("a superseded relay saved %d times after the take-over at %s", late, taken)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }() // the port is all that was wanted
	return listener.Addr().String()
}

// sinkConnection is what the broker tells of a connection.
type sinkConnection struct {
	ID       uint64 `json:"cid"`
	Name     string `json:"name"`
	Received int    `json:"in_msgs"`
	Stop     string `json:"stop"`
}

// sinks asks the broker about all connections of sinks that ever were.
func sinks(t *testing.T, monitor string) (all []sinkConnection) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + monitor + "/connz?state=all&limit=1000")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var connections struct {
		Connections []sinkConnection `json:"connections"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&connections); err != nil {
		t.Fatal(err)
	}
	for _, c := range connections.Connections {
		if c.Name == "pg_tide sink "+ordersPipeline {
			all = append(all, c)
		}
	}
	return all
}

func publishedBy(t *testing.T, monitor string) map[uint64]int {
	t.Helper()
	published := map[uint64]int{}
	for _, c := range sinks(t, monitor) {
		published[c.ID] = c.Received
	}
	return published
}

func openSinks(t *testing.T, monitor string) map[uint64]bool {
	t.Helper()
	open := map[uint64]bool{}
	for _, c := range sinks(t, monitor) {
		if c.Stop == "" {
			open[c.ID] = true
		}
	}
	return open
}

func TestPromise09RelaysShareThePipelinesEvenly(t *testing.T) {
	t.Parallel()
	const pipelines = 7
	s := extended(t)
	broker := startBroker(t)
	for i := range pipelines {
		s.execute(t, `select tide.outbox_create($1)`, fmt.Sprintf("o%d", i))
		s.execute(t, `select tide.relay_set_outbox($1, $1, $2::jsonb)`, fmt.Sprintf("o%d", i),
			fmt.Sprintf(`{"sink_type": "nats", "url": %q, "subject": "o%d.x"}`, broker.URL(), i))
	}
	shares := func(want string) time.Duration {
		t.Helper()
		start := time.Now()
		eventually(t, func() (bool, string) {
			got := one[string](t, s, `
				select coalesce(string_agg(n::text, ' ' order by n desc), '')
				from (select count(*) as n from tide.relay_status r where r.owner is not null and r.state = 'running' group by r.owner) o`)
			return got == want, "the shares are " + got + ", not " + want
		})
		return time.Since(start)
	}
	first := startRelay(t, s.dsn)
	shares("7")
	second := startRelay(t, s.dsn)
	t.Logf("a second relay has its share after %s", shares("4 3"))
	startRelay(t, s.dsn)
	t.Logf("a third relay has its share after %s", shares("3 2 2"))
	second.stop(t)
	t.Logf("the share of one that ended was taken over after %s", shares("4 3"))
	first.kill(t)
	t.Logf("the share of one that was killed was taken over after %s", shares("7"))
}
