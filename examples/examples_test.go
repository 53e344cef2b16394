package examples

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// Each way of working runs against one end of the supported versions.
func TestExamplesDoEverythingOnceThoughTheyAreKilled(t *testing.T) {
	for _, lang := range languages() {
		t.Run(lang.folder, func(t *testing.T) {
			t.Parallel()
			command := lang.built(t)
			t.Run("lease", func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, lang, command, "lease", pgtest.Newest)
				w.stallWorker(w.killWorkers())
				w.extendLease()
				w.wakeAndStop()
				w.compare()
			})
			t.Run("transaction", func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, lang, command, "transaction", pgtest.Oldest)
				w.stop(w.killWorkers())
				w.wakeAndStop()
				w.compare()
			})
		})
	}
}

// killWorkers kills two workers in turns, each in the middle of an order,
// while another order fails again and again. It returns the one that it leaves.
func (w *world) killWorkers() (left *worker) {
	w.t.Helper()
	workers := map[string]*worker{}
	for _, name := range []string{"A", "B"} {
		workers[name] = w.start(name, 1)
	}
	w.send(order{id: "ORD-NOBODY", customer: "nobody", amount: 1, fate: outOfAttempts})
	for i, point := range []string{"written", "commit", "start"} {
		g := w.shut(fmt.Sprintf("c%d", i+1), point)
		w.sendEach(3)
		name := g.caught()
		workers[name].Kill()
		g.open()
		workers[name] = w.start(name, 1)
		w.drained()
	}
	w.failOrders()
	w.stop(workers["B"])
	return workers["A"]
}

// failOrders sends one order that can never be paid, before one of the same
// customer that can, and one whose customer is known only after it was tried.
func (w *world) failOrders() {
	w.t.Helper()
	w.send(order{id: "ORD-BAD", customer: "c1", amount: -1, fate: givenUp}, w.good("c1", 1), order{id: "ORD-LATE", customer: "late", amount: 7})
	eventually(w.t, func() (bool, string) {
		return w.count(`select count(*) from tide."payment_triggers_inbox" where event_id = 'ORD-LATE' and last_error is not null`) == 1,
			"the order of an unknown customer has not failed"
	})
	schematest.Exec(w.t, w.pool, `insert into customers values ('late')`)
	w.drained()
	eventually(w.t, func() (bool, string) {
		return w.count(`select count(*) from tide."payment_triggers_inbox" where dead_at is not null`) == 2, "there are not two dead letters"
	})
}

// stallWorker lets a worker stand still until another has done its order, and
// sees that its own work is refused.
func (w *world) stallWorker(stalled *worker) {
	w.t.Helper()
	g := w.shut("c1", "start")
	w.send(w.good("c1", 1))
	g.caught()
	g.pass()
	other := w.start("other", 1)
	w.drained()
	g.open()
	eventually(w.t, func() (bool, string) {
		return strings.Contains(stalled.output.String(), "was lost"), "the stalled worker does not say that its lease was lost"
	})
	w.sendEach(1)
	w.drained()
	w.stop(stalled, other)
}

// extendLease holds a worker at its first order for more than a third of the
// lease, and sees at the second one that the third's lease has become longer.
func (w *world) extendLease() {
	w.t.Helper()
	first, second := w.shut("c1", "start"), w.shut("c2", "start")
	last := w.good("c3", 3)
	w.send(w.good("c1", 1), w.good("c2", 2), last)
	one := w.start("slow", 1)
	first.caught()
	left := func() (seconds float64, end string) {
		schematest.Query(w.t, w.pool, `select extract(epoch from next_attempt_at - clock_timestamp())::float8, next_attempt_at::text
			from tide."payment_triggers_inbox" where event_id = $1 and lease_token is not null`, []any{last.id}, &seconds, &end)
		return seconds, end
	}
	_, before := left()
	eventually(w.t, func() (bool, string) {
		seconds, _ := left()
		return seconds < leaseSeconds/2.0, fmt.Sprintf("%.1f seconds of the lease are left", seconds)
	})
	first.open()
	second.caught()
	if _, after := left(); after <= before {
		w.t.Errorf("the lease ended at %s, and still does so at %s", before, after)
	}
	second.open()
	w.drained()
	w.stop(one)
}

// wakeAndStop has a worker that asks by itself only every ten minutes do an
// order that comes, and then ends it in the middle of another.
func (w *world) wakeAndStop() {
	w.t.Helper()
	one := w.start("sleeper", 600)
	w.idle(one)
	w.sendEach(1)
	w.drained()
	g := w.shut("c1", "written")
	w.sendEach(2)
	g.caught()
	if err := syscall.Kill(one.PID(), syscall.SIGTERM); err != nil {
		w.t.Fatal(err)
	}
	g.open()
	one.stop(w.t)
	if n := w.count(`select count(*) from tide."payment_triggers_inbox" where lease_token is not null`); n != 0 {
		w.t.Errorf("the worker ended and kept %d messages", n)
	}
	if n := w.count(`select count(*) from tide."payment_triggers_inbox" where attempts > 0 and processed_at is null and dead_at is null`); n != 0 {
		w.t.Errorf("%d messages that the worker gave back count as tried", n)
	}
	other := w.start("last", 1)
	w.drained()
	w.stop(other)
}
