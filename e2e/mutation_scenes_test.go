package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pg-tide/pg-tide/internal/fault"
)

// scene is a walk with the forward pipeline alone, whose relays are started
// one by one.
func scene(t *testing.T, w *walk, o *outing) *walk {
	t.Helper()
	w.mutant = o.mutant
	w.service.execute(t, `select tide.relay_disable('in')`)
	return w
}

// start starts a relay that is as wrong as the walk wants it.
func (w *walk) start(t *testing.T, dsn, faults string) *relay {
	t.Helper()
	command := exec.Command(breakableBinary(t), "--postgres-url", dsn, "--http-addr", "off", "--log-level", "debug")
	command.Env = append(command.Environ(), "PG_TIDE_LOG_FORMAT=json", "PG_TIDE_FAULT="+faults, "PG_TIDE_MUTANT="+string(w.mutant))
	return startProcess(t, "the relay", command)
}

// passed waits until the relay has acted at a point.
func (r *relay) passed(t *testing.T, action string, point fault.Point) {
	t.Helper()
	eventually(t, func() (bool, string) {
		return strings.Contains(r.log.String(), action+" at "+string(point)), fmt.Sprintf("the relay does %s at %s", action, point)
	})
}

// publishAtOnce publishes the events from..to of a key in one transaction.
func (w *walk) publishAtOnce(t *testing.T, key string, from, to int) {
	t.Helper()
	tx := w.begin(t)
	w.publishIn(t, tx, key, from, to, "")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// saved waits until the position is behind all that is committed.
func (w *walk) saved(t *testing.T) {
	t.Helper()
	eventually(t, func() (bool, string) {
		return one[bool](t, w.service, `select tide.outbox_status('walk') #>> '{pipelines,0,pending}' = '0'`),
			"the position is behind everything: " + w.service.status(t)
	})
}

// streamed waits until the stream has so many different events of a key.
func (w *walk) streamed(t *testing.T, key string, n int) {
	t.Helper()
	eventually(t, func() (bool, string) {
		different := map[int]bool{}
		for _, number := range w.inStream(t)[key] {
			different[number] = true
		}
		return len(different) >= n, fmt.Sprintf("%d events of key %s are in the stream, want %d", len(different), key, n)
	})
}

// buried waits until the database takes relays that are gone for dead.
func (w *walk) buried(t *testing.T) {
	t.Helper()
	eventually(t, func() (bool, string) { return one[bool](t, w.service, burySQL), "the dead relay counts as dead" })
}

// A relay that sleeps past its lease wakes with a position to save. Another
// one has moved on meanwhile: the position must not go back, and the sleeper
// must not go on.
func sleepBeforeSave(t *testing.T, o *outing) []string {
	t.Helper()
	w := scene(t, newWalk(t, o.shared, o.prefix, nil), o)
	w.publish(t, "a", 1, 10)
	sleeper := w.start(t, w.service.dsn, string(fault.ForwardBeforeSave)+":1:stop")
	sleeper.passed(t, "stop", fault.ForwardBeforeSave)
	w.publish(t, "a", 11, 20)
	w.service.execute(t, `update tide.relay_instance set heartbeat_at = heartbeat_at - interval '1 minute'`)
	other := startRelayOf(t, breakableBinary(t), w.service.dsn, "--http-addr", "off")
	w.saved(t)
	sleeper.signal(t, syscall.SIGCONT)
	eventually(t, func() (bool, string) {
		return one[int](t, w.service, `select count(*) from tide.relay_instance where heartbeat_at > clock_timestamp() - interval '8 seconds'`) == 2,
			"the sleeper wakes"
	})
	sleeper.stop(t) // then it has done all that it would
	other.stop(t)
	findings := w.compare("stream", w.inStream(t))
	if back := one[string](t, w.service, `select coalesce(min(format('the position went back: from %s to %s', a.last_id, b.last_id)), '')
			from tide.pipeline_position a
			join tide.pipeline_position b on b.seq > a.seq and b.last_id < a.last_id`); back != "" {
		findings = append(findings, back)
	}
	return findings
}
