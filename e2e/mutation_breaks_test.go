package e2e

import (
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// deadBroker lets a relay send to a broker that reads nothing any more, and
// both die: what was sent is nowhere.
func deadBroker(t *testing.T, o *outing) []string {
	t.Helper()
	w := scene(t, newWalk(t, startBroker(t), o.prefix, nil), o)
	r := w.start(t, w.service.dsn, string(fault.ForwardBeforeReceipt)+":2:hang")
	w.publish(t, "a", 1, 1)
	w.saved(t)
	w.broker.server.Freeze(t)
	w.publishAtOnce(t, "a", 2, 7)
	r.passed(t, "hang", fault.ForwardBeforeReceipt)
	if w.mutant != "" {
		w.saved(t) // which is the mistake
	}
	r.kill(t)
	w.broker.Kill(t)
	w.broker.Start(t)
	w.buried(t)
	w.start(t, w.service.dsn, "")
	w.publishAtOnce(t, "b", 1, 3)
	w.streamed(t, "b", 3)
	return w.compare("stream", w.inStream(t))
}

// brokenConnection lets events get lost with the connection to the broker, and
// later ones be published before there is another.
func brokenConnection(t *testing.T, o *outing) []string {
	t.Helper()
	w := newWalk(t, o.shared, o.prefix, nil)
	line := startLine(t, o.shared)
	w.url = line.URL()
	w.configure(t, true)
	scene(t, w, o)
	r := w.start(t, w.service.dsn, string(fault.ForwardAfterSend)+":3:note")
	w.publish(t, "a", 1, 1)
	w.saved(t)
	line.swallow()
	w.publishAtOnce(t, "a", 2, 7)
	eventually(t, func() (bool, string) { return line.swallowed("Nats-Msg-Id") == 6, "six events are lost on the way" })
	line.cut()
	w.publishAtOnce(t, "a", 8, 14)
	if w.mutant != "" {
		r.passed(t, "note", fault.ForwardAfterSend) // into the client's buffer
	} else {
		w.service.awaitStatus(t, "out", "r.state = 'waiting'")
	}
	line.mend()
	w.streamed(t, "a", 14)
	return w.compare("stream", w.inStream(t))
}

// unwrittenCommits lets PostgreSQL crash while the commits of publishers that
// do not wait for the disk are in its memory alone, unless the relay has seen
// to them.
func unwrittenCommits(t *testing.T, o *outing) []string {
	t.Helper()
	w := o.ownServer(t, map[string]string{
		"synchronous_commit": "off", "autovacuum": "off", "bgwriter_lru_maxpages": "0", "checkpoint_timeout": "1h", "wal_buffers": "16MB"})
	w.start(t, w.service.dsn, "")
	w.publish(t, "a", 1, 10)
	w.saved(t)
	w.service.execute(t, `checkpoint`)
	writer := one[int](t, w.service, `select pid from pg_stat_activity where backend_type = 'walwriter'`)
	signalTo(t, writer, syscall.SIGSTOP)
	// more than a sequence draws with one record of the log
	const unwritten = 80
	w.publishAtOnce(t, "b", 1, unwritten)
	w.streamed(t, "b", unwritten)
	w.saved(t)
	signalTo(t, writer, syscall.SIGKILL)
	w.recovered(t)
	w.published["b"] = one[int](t, w.service, `select count(*) from tide.outbox_event where key = 'b'`)
	w.publish(t, "c", 1, unwritten+40)
	// the last ones have ids that nobody ever saw
	eventually(t, func() (bool, string) {
		numbers := w.inStream(t)["c"]
		return len(numbers) > 0 && numbers[len(numbers)-1] == unwritten+40, "the last event is in the stream: " + w.service.status(t)
	})
	return w.compare("stream", w.inStream(t))
}

// ownServer makes a scene on a server of its own.
func (o *outing) ownServer(t *testing.T, settings map[string]string) *walk {
	t.Helper()
	dsn := pgtest.Own(t, throwaway.Options{Major: tutorialMajor, Settings: settings}).DSN("postgres")
	if err := schematest.Install(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	return scene(t, newWalkIn(t, dsn, o.shared, o.prefix, nil), o)
}

func signalTo(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatalf("send %s to a process of PostgreSQL: %v", signal, err)
	}
}

// recovered waits until PostgreSQL, which crashed, takes connections again.
func (w *walk) recovered(t *testing.T) {
	t.Helper()
	eventually(t, func() (bool, string) { return w.service.typed.Ping(t.Context()) != nil, "the crash ends the sessions" })
	eventually(t, func() (bool, string) {
		conn, err := pgx.Connect(t.Context(), w.service.dsn)
		if err != nil {
			return false, err.Error()
		}
		return conn.Close(t.Context()) == nil, "the session ends well"
	})
	w.service.typed = pgtest.Conn(t, w.service.dsn)
	w.service.pool.Reset()
}
