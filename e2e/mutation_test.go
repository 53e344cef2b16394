package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/fault"
)

// A test that never fails proves nothing: here the relay is wrong on purpose,
// and the checks of the walk must say so, each in the way that is written
// beside it. With the same deaths and a right relay nothing is found. What
// needs the chances of a torture to be noticed is tried by `make mutations`.
func TestAWrongRelayIsNoticed(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	redelivered := []death{{fault.ReverseAfterFetch, 1}}
	for i, c := range []struct {
		mutant fault.Mutation
		deaths []death
		says   string
	}{
		{fault.ReadByID, nil, "lost"},
		{fault.CutLate, nil, "lost"},
		{fault.ReuseAckAll, redelivered, "lost"},
		{fault.ReuseAckEach, redelivered, "disordered"},
		{fault.NoDedup, []death{{fault.ReverseAfterInsert, 1}}, "doubled"},
		{fault.DropLetters, nil, "lost"},
		{fault.RetryOvertaken, nil, "disordered"},
	} {
		for _, mutant := range []fault.Mutation{c.mutant, ""} {
			name := strings.TrimSuffix(string(c.mutant)+"/"+map[bool]string{true: "right"}[mutant == ""], "/")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWalk(t, broker, fmt.Sprintf("mutant%d%s", i, map[bool]string{true: "right"}[mutant == ""]), c.deaths)
				w.mutant = mutant
				w.stroll(t)
				findings := w.findings(t)
				t.Logf("found: %q", findings)
				switch {
				case mutant == "" && len(findings) > 0:
					t.Errorf("a right relay was blamed: %q", findings)
				case mutant != "" && !slices.ContainsFunc(findings, func(f string) bool { return strings.HasPrefix(f, c.says) }):
					t.Errorf("nothing %s was found: %q", c.says, findings)
				}
			})
		}
	}
}

// stroll takes the paths of a walk on which the mutations part from what is right.
func (w *walk) stroll(t *testing.T) {
	late := w.begin(t)
	w.publishIn(t, late, "late", 1, 4, "")
	w.publish(t, "a", 1, 30)
	w.live(t)
	w.arrive(t)
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.arrive(t)
	tx := w.begin(t)
	w.publishIn(t, tx, "p", 1, 1, "")
	w.publishIn(t, tx, "p", 2, 2, "forward")
	w.publishIn(t, tx, "p", 3, 3, "")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.arrive(t)
	w.configure(t, false)
	w.retry(t, "out")
	w.publish(t, "b", 1, 10)
	w.arrive(t)
	w.lettersGone(t)
	if left := w.lives.left(); len(left) > 0 {
		t.Errorf("the walk never passed %v", left)
	}
}

// arrive waits until all that was committed is in the inbox or among the dead
// letters.
func (w *walk) arrive(t *testing.T) {
	t.Helper()
	w.until(t, `(select count(distinct (key, payload)) from tide."walk_inbox") + (select count(*) from tide.dead_letters)
		>= (select count(*) from tide.outbox_event e join tide.outbox o on o.name = 'walk')`)
}

// lettersGone waits until all that was committed is in the inbox itself: a
// letter that is tried again lies in both for a moment and counts twice.
func (w *walk) lettersGone(t *testing.T) {
	t.Helper()
	w.until(t, `(select count(distinct (key, payload)) from tide."walk_inbox")
		>= (select count(*) from tide.outbox_event e join tide.outbox o on o.name = 'walk')
		and not exists (select from tide.dead_letters)`)
}

// until waits for a condition. A wrong relay is judged once nothing has moved
// for longer than the broker takes to deliver again.
func (w *walk) until(t *testing.T, condition string) {
	t.Helper()
	const still = (ackWaitSeconds + 3) * time.Second
	var last string
	since := time.Now()
	eventually(t, func() (bool, string) {
		w.lives.fine(t)
		now := one[string](t, w.service, `select concat_ws(' ',
			(select count(*) from tide.dead_letters), (select max(id) from tide."walk_inbox"), `+condition+`)`)
		if now != last {
			last, since = now, time.Now()
		}
		return strings.HasSuffix(now, " t") || w.mutant != "" && time.Since(since) > still, "all has arrived: " + now
	})
}

// A relay that sleeps past its lease wakes with a position to save. Another
// one has moved on meanwhile: the position must not go back, and the sleeper
// must not go on.
func TestARelayWithoutFenceIsNoticed(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	for name, mutant := range map[string]fault.Mutation{"no_fence": fault.NoFence, "right": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWalk(t, broker, "fence_"+name, nil)
			w.service.execute(t, `select tide.relay_disable('in')`)
			w.publish(t, "a", 1, 10)
			sleeper := startSleeper(t, w, mutant)
			sleeper.asleep(t)
			w.publish(t, "a", 11, 20)
			w.service.execute(t, `update tide.relay_instance set heartbeat_at = heartbeat_at - interval '1 minute'`)
			other := startRelayOf(t, breakableBinary(t), w.service.dsn, "--http-addr", "off")
			eventually(t, func() (bool, string) {
				return one[bool](t, w.service, `select tide.outbox_status('walk') #>> '{pipelines,0,pending}' = '0'`), "the other relay delivers all"
			})
			sleeper.signal(t, syscall.SIGCONT)
			eventually(t, func() (bool, string) {
				return one[int](t, w.service, `select count(*) from tide.relay_instance where heartbeat_at > clock_timestamp() - interval '8 seconds'`) == 2,
					"the sleeper wakes"
			})
			sleeper.stop(t) // then it has done all that it would
			other.stop(t)
			wentBack := one[bool](t, w.service, `select exists (
				select from tide.pipeline_position a
				join tide.pipeline_position b on b.seq > a.seq and b.last_id < a.last_id)`)
			if wentBack != (mutant != "") {
				t.Errorf("the position went back: %t", wentBack)
			}
		})
	}
}

// sleeper is a relay that stops itself before it saves.
type sleeper struct{ *relay }

func startSleeper(t *testing.T, w *walk, mutant fault.Mutation) sleeper {
	t.Helper()
	command := exec.Command(breakableBinary(t), "--postgres-url", w.service.dsn, "--http-addr", "off", "--log-level", "debug")
	command.Env = append(command.Environ(), "PG_TIDE_LOG_FORMAT=json",
		fmt.Sprintf("PG_TIDE_FAULT=%s:1:stop", fault.ForwardBeforeSave), "PG_TIDE_MUTANT="+string(mutant))
	return sleeper{startProcess(t, "the relay that sleeps", command)}
}

// asleep waits until the process has stopped itself.
func (s sleeper) asleep(t *testing.T) {
	t.Helper()
	eventually(t, func() (bool, string) {
		return strings.Contains(s.log.String(), "stop at "+string(fault.ForwardBeforeSave)), "the relay falls asleep"
	})
}
