package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/fault"
)

// occasion is something that happens to a relay. A right one comes through it
// without a finding; mutants do not, and what is found begins as written beside each.
type occasion struct {
	name    string
	take    func(t *testing.T, o *outing) (findings []string)
	mutants map[fault.Mutation]string
}

// outing is one relay on one occasion.
type outing struct {
	// shared is a broker that lives through everything.
	shared *broker
	prefix string
	mutant fault.Mutation
	// loses says that this relay is to be found losing events for ever.
	loses bool
}

func occasions() []occasion {
	return []occasion{
		{"nothing happens", strolling(), map[fault.Mutation]string{
			fault.ReadByID: "lost in the stream", fault.CutLate: "lost in the stream", fault.DropLetters: "lost in the stream",
			fault.RetryOvertaken: "disordered in the stream",
		}},
		{"it dies with a delivery in its hands", strolling(death{fault.ReverseAfterFetch, 1}), map[fault.Mutation]string{
			fault.ReuseAckAll: "lost in the inbox", fault.ReuseAckEach: "disordered in the inbox",
		}},
		{"it dies before an insert", strolling(death{fault.ReverseBeforeInsert, 1}), map[fault.Mutation]string{
			fault.AcknowledgeBeforeInsert: "lost in the inbox",
		}},
		{"it dies after an insert", strolling(death{fault.ReverseAfterInsert, 1}), map[fault.Mutation]string{
			fault.NoDedup: "doubled in the inbox",
		}},
		{"a transaction begins while a page is read", lateStart, map[fault.Mutation]string{
			fault.LateInListOnly: "lost in the stream",
		}},
		{"it sleeps before a save, and another takes over", sleepBeforeSave, map[fault.Mutation]string{
			fault.NoFence: "the position went back",
		}},
		{"it and the broker die, and nothing was acknowledged", deadBroker, map[fault.Mutation]string{
			fault.SaveBeforeReceipt: "lost in the stream",
		}},
		{"the connection to the broker breaks with events on the way", brokenConnection, map[fault.Mutation]string{
			fault.ClientResends: "disordered in the stream",
		}},
		{"PostgreSQL crashes before commits are written", unwrittenCommits, map[fault.Mutation]string{
			fault.ReadUnflushed: "invented in the stream", fault.PositionInMemory: "lost in the stream",
		}},
	}
}

// A test that never fails proves nothing: here the relay is wrong on purpose,
// and the checks must say so, each in the way that is written beside it. A
// right relay on the same occasion is blamed for nothing.
func TestAWrongRelayIsNoticed(t *testing.T) {
	t.Parallel()
	noticed := &mutationTable{rows: map[fault.Mutation]string{}}
	t.Cleanup(func() { noticed.print(t) })
	broker := startBroker(t)
	breakableBinary(t) // so that no occasion seems to take as long as its build
	for i, c := range occasions() {
		mutants := map[fault.Mutation]string{"": ""} // a right one
		maps.Copy(mutants, c.mutants)
		for mutant, says := range mutants {
			name := cmp.Or(string(mutant), "right")
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				begin := time.Now()
				findings := c.take(t, &outing{shared: broker, prefix: fmt.Sprintf("occasion%d%s", i, name), mutant: mutant,
					loses: strings.HasPrefix(says, "lost")})
				if mutant == "" {
					if len(findings) > 0 {
						t.Errorf("a right relay was blamed: %q", findings)
					}
					return
				}
				found := slices.IndexFunc(findings, func(f string) bool { return strings.HasPrefix(f, says) })
				if found < 0 {
					t.Errorf("nothing %s was found: %q", says, findings)
					return
				}
				noticed.add(mutant, c.name, findings[found], time.Since(begin))
			})
		}
	}
}

func TestThereIsAnOccasionForEveryMutation(t *testing.T) {
	t.Parallel()
	var all []fault.Mutation
	for _, c := range occasions() {
		for mutant := range c.mutants {
			all = append(all, mutant)
		}
	}
	want := fault.Mutations()
	slices.Sort(all)
	slices.Sort(want)
	if !slices.Equal(all, want) {
		t.Errorf("there are occasions for %q, and the mutations are %q", all, want)
	}
}

// mutationTable is what was said of each, as docs/mutations.md has it.
type mutationTable struct {
	mu   sync.Mutex
	rows map[fault.Mutation]string
}

func (m *mutationTable) add(mutant fault.Mutation, occasion, said string, after time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[mutant] = fmt.Sprintf("| `%s` | %s | %s | %s |", mutant, occasion, said, after.Round(time.Second))
}

// print writes the table to the file that PG_TIDE_MUTATION_TABLE names.
func (m *mutationTable) print(t *testing.T) {
	lines := []string{"| mutation | what happens | what the check said | after |", "|---|---|---|---|"}
	for _, mutant := range fault.Mutations() {
		if row := m.rows[mutant]; row != "" {
			lines = append(lines, row)
		}
	}
	text := strings.Join(lines, "\n") + "\n"
	t.Log("\n" + text)
	if path := os.Getenv("PG_TIDE_MUTATION_TABLE"); path != "" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// strolling is a walk on which relays die at some points.
func strolling(deaths ...death) func(t *testing.T, o *outing) []string {
	return func(t *testing.T, o *outing) []string {
		t.Helper()
		w := newWalk(t, o.shared, o.prefix, deaths)
		w.mutant, w.loses = o.mutant, o.loses
		w.stroll(t)
		findings := w.findings(t)
		if left := w.lives.left(); len(left) > 0 {
			t.Errorf("the walk never passed %v", left)
		}
		return findings
	}
}

// stroll takes the paths of a walk on which the mutations part from what is
// right, until nothing moves any more.
func (w *walk) stroll(t *testing.T) {
	late := w.begin(t)
	w.publishIn(t, late, "late", 1, 4, "")
	w.publish(t, "a", 1, 30)
	w.live(t)
	if !w.arrives(t) {
		return // the rest would only take time
	}
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !w.arrives(t) {
		return
	}
	tx := w.begin(t)
	w.publishIn(t, tx, "p", 1, 1, "")
	w.publishIn(t, tx, "p", 2, 2, "forward")
	w.publishIn(t, tx, "p", 3, 3, "")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !w.arrives(t) {
		return
	}
	w.configure(t, false)
	w.retry(t, "out")
	w.publish(t, "b", 1, 10)
	if w.arrives(t) {
		w.lettersGone(t)
	}
}

// arrives waits until all that was committed is in the inbox or among the dead
// letters, and says whether it came to that.
func (w *walk) arrives(t *testing.T) bool {
	t.Helper()
	return w.until(t, `(select count(distinct (key, payload)) from tide."walk_inbox") + (select count(*) from tide.dead_letters)
		>= (select count(*) from tide.outbox_event e join tide.outbox o on o.name = 'walk')`)
}

// lettersGone waits until all that was committed is in the inbox itself: a
// letter that is tried again lies in both for a moment and counts twice.
func (w *walk) lettersGone(t *testing.T) bool {
	t.Helper()
	return w.until(t, `(select count(distinct (key, payload)) from tide."walk_inbox")
		>= (select count(*) from tide.outbox_event e join tide.outbox o on o.name = 'walk')
		and not exists (select from tide.dead_letters)`)
}

// until waits for a condition. A relay that loses events is judged once nothing
// has moved for longer than the broker takes to deliver again; others must get
// there.
func (w *walk) until(t *testing.T, condition string) (holds bool) {
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
		holds = strings.HasSuffix(now, " t")
		return holds || w.loses && time.Since(since) > still, "all has arrived: " + now
	})
	return holds
}
