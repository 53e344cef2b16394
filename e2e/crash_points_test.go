package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pg-tide/pg-tide/internal/fault"
)

// faultMarker is what only a binary that can be broken has in it.
const faultMarker = "pg-tide fault injection"

// breakable is the command built with points to crash at, made once.
var breakable = sync.OnceValues(func() (string, error) {
	path := filepath.Join(work, "pg-tide-faults")
	build := exec.Command("go", "build", "-tags", "tide_faults", "-o", path, "../cmd/pg-tide")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the command with faults: %w\n%s", err, out)
	}
	return path, nil
})

func breakableBinary(t *testing.T) string {
	t.Helper()
	path, err := breakable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNoBinaryForUsersCanBeBroken(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{built(t): false, breakableBinary(t): true} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{faultMarker, "PG_TIDE_FAULT", "PG_TIDE_MUTANT", string(fault.ForwardBeforeSend), string(fault.ReadByID)} {
			if bytes.Contains(text, []byte(word)) != want {
				t.Errorf("%s holds %q: %t, want %t", filepath.Base(path), word, !want, want)
			}
		}
	}
}

// death is where a life of the relay ends.
type death struct {
	point   fault.Point
	passage int
}

func (c death) String() string { return fmt.Sprintf("%s:%d", c.point, c.passage) }

// twice lets two lives end at a point: at its first passage, and at a later one.
func twice(p fault.Point, later int) []death { return []death{{p, 1}, {p, later}} }

// crashesAt are the lives in which a point is looked at. Most points are
// passed many times. Some are passed only once in a life, some only by a
// relay whose predecessor died with something in its hands.
func crashesAt(p fault.Point) []death {
	unacknowledged := death{fault.ReverseBeforeAcknowledge, 1}
	switch p {
	case fault.ReverseBeforeReset:
		return []death{unacknowledged, {p, 1}, {p, 1}}
	case fault.ReverseAfterReset:
		return []death{unacknowledged, {p, 1}, unacknowledged, {p, 1}}
	case fault.ForwardOpened, fault.ForwardBeforeDrain, fault.ForwardAfterDrain, fault.ReverseBeforeHandBack,
		fault.LettersBeforeAdd, fault.LettersAmidAdd, fault.LettersAfterAdd, fault.LettersAfterDue,
		fault.OwnerBeforeRelease, fault.OwnerAfterRelease,
		fault.ShutdownBeforeDrain, fault.ShutdownBeforeLeave, fault.ShutdownAfterLeave:
		return twice(p, 1)
	case fault.LettersBeforeSettle, fault.LettersAfterSettle, fault.OwnerBeforeHeartbeat, fault.OwnerAfterHeartbeat, fault.OwnerBeforeReport:
		return twice(p, 2)
	}
	return twice(p, 3)
}

// Wherever the relay dies, and again later: nothing is lost, nothing is
// doubled, every key is in order, in the stream and in the inbox.
func TestTheRelayMayDieAtEveryPoint(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	for i, point := range fault.Points() {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			w := newWalk(t, broker, fmt.Sprintf("walk%d", i), crashesAt(point))
			w.run(t)
			w.check(t)
		})
	}
}

// The client is gone, and the server commits all the same: what is under way
// when the relay dies may still become durable.
func TestWhatTheRelayAskedForMayBeDoneAfterItsDeath(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"insert": `tide."walk_inbox"`,
		"save":   `tide.pipeline_position`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWalk(t, startBroker(t), "held", nil)
			lock := w.begin(t)
			if _, err := lock.Exec(t.Context(), "lock table "+table+" in share mode"); err != nil {
				t.Fatal(err)
			}
			w.live(t)
			w.publish(t, "a", 1, 10)
			w.service.waits(t, table)
			w.lives.kill(t)
			if err := lock.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.await(t, 10, "a")
			w.publish(t, "a", 11, 20)
			w.await(t, 20, "a")
			w.stop(t)
			w.check(t)
		})
	}
}

// waits waits until a session waits for a lock on the table.
func (s *service) waits(t *testing.T, table string) {
	t.Helper()
	eventually(t, func() (bool, string) {
		return one[bool](t, s, `select exists (
			select from pg_locks l
			where l.relation = $1::regclass and not l.granted)`, strings.ReplaceAll(table, `"`, "")), "somebody waits for " + table
	})
}
