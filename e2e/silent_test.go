package e2e

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// valve stands between a relay and its database. Once shut it keeps the
// connections and passes nothing on, as a network does that lost its way.
type valve struct {
	listener net.Listener
	to       string
	shut     chan struct{}
	done     sync.WaitGroup
}

func newValve(t *testing.T, to string) *valve {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{listener: listener, to: to, shut: make(chan struct{})}
	over := make(chan struct{})
	v.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			v.done.Go(func() { v.join(conn, over) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close() // the test is over
		close(over)
		v.done.Wait()
	})
	return v
}

// join passes bytes both ways until an end closes. Once the valve is shut it
// holds the connection open until the test is over.
func (v *valve) join(from net.Conn, over <-chan struct{}) {
	to, err := net.Dial("tcp", v.to)
	if err != nil {
		_ = from.Close() // the other side sees it
		return
	}
	closed := make(chan struct{}, 2)
	var copies sync.WaitGroup
	copies.Go(func() { v.copy(to, from, closed) })
	copies.Go(func() { v.copy(from, to, closed) })
	select {
	case <-closed:
	case <-over:
	}
	_, _ = from.Close(), to.Close() // wakes the copies
	copies.Wait()
}

func (v *valve) copy(to, from net.Conn, closed chan<- struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-v.shut:
			return
		default:
		}
		if err == nil {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			closed <- struct{}{}
			return
		}
	}
}

// through is the DSN by way of the valve.
func (v *valve) through(t *testing.T, dsn string) string {
	t.Helper()
	parts, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	parts.Host = v.listener.Addr().String()
	return parts.String()
}

func databaseHost(t *testing.T, dsn string) string {
	t.Helper()
	parts, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return parts.Host
}

// runningBehindAValve is a relay at work whose database falls silent.
func runningBehindAValve(t *testing.T) *relay {
	t.Helper()
	b := newBus(t, startBroker(t).URL())
	v := newValve(t, databaseHost(t, b.orders.dsn))
	r := startRelay(t, v.through(t, b.orders.dsn))
	b.orders.awaitStatus(t, "orders-to-nats", "r.state = 'running' and r.lag_events = 0")
	close(v.shut)
	return r
}

// probe asks one, and returns the status and what it says; 0 when nobody answers.
func (r *relay) probe(t *testing.T, path string) (status int, text string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + r.address(t) + path)
	if err != nil {
		return 0, ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, ""
	}
	return answer.StatusCode, string(body)
}

// answers says whether a probe has that status now.
func (r *relay) answers(t *testing.T, path string, status int) bool {
	t.Helper()
	got, _ := r.probe(t, path)
	return got == status
}

// stops says whether the relay is handling a signal. Not ready alone does not
// say so: it is not without its database either.
func (r *relay) stops(t *testing.T) bool {
	t.Helper()
	_, text := r.probe(t, "/readyz")
	return strings.Contains(text, "the relay is stopping")
}

func TestSigtermEndsInTimeAlthoughTheDatabaseIsSilent(t *testing.T) {
	t.Parallel()
	r := runningBehindAValve(t)
	// 5 s is the promise; the rest is for a machine that is busy with other tests.
	if took := r.stop(t); took > 7*time.Second {
		t.Errorf("the relay took %s to end", took)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := runningBehindAValve(t)
	r.signal(t, syscall.SIGTERM)
	// The first one is being handled once the relay says that it is not ready;
	// until then the second might be taken for the first.
	eventually(t, func() (bool, string) { return r.stops(t), "/readyz does not say that it is stopping" })
	start := time.Now()
	r.signal(t, syscall.SIGTERM)
	<-r.exited
	if took := time.Since(start); took > time.Second {
		t.Errorf("the relay took %s to end after a second signal", took)
	}
	if r.err == nil {
		t.Error("ended well, although it was cut short")
	}
}
