//go:build tide_faults

package fault

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// marker is in every tagged binary, and printed whenever something is broken.
const marker = "pg-tide fault injection"

// crashed is the exit code of a process that SIGKILL ended, as shells show it.
const crashed = 137

// planned is one entry of PG_TIDE_FAULT.
type planned struct {
	point   Point
	passage int64
	action  string
	passed  atomic.Int64
}

// The environment is read once: it is that of the whole process, and the
// points are too many places to carry a plan to.
var (
	plan      = sync.OnceValue(func() []*planned { return readPlan(os.Getenv("PG_TIDE_FAULT")) })
	mutations = sync.OnceValue(func() map[Mutation]bool { return readMutations(os.Getenv("PG_TIDE_MUTANT")) })
)

// At is passed at the point p, and acts if the plan says so.
func At(p Point) {
	for _, f := range plan() {
		if f.point == p && f.passed.Add(1) == f.passage {
			f.act()
		}
	}
}

// Mutant says whether the mutation m is on.
func Mutant(m Mutation) bool { return mutations()[m] }

func (f *planned) act() {
	fmt.Fprintf(os.Stderr, "%s: %s at %s, passage %d\n", marker, f.action, f.point, f.passage)
	switch f.action {
	case "exit":
		os.Exit(crashed)
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // one's own process can be stopped
	case "hang":
		select {}
	case "note": // was written above
	}
}

func readPlan(text string) []*planned {
	var all []*planned
	for entry := range strings.SplitSeq(text, ",") {
		if entry == "" {
			continue
		}
		parts := strings.Split(entry, ":")
		f := &planned{point: Point(parts[0]), passage: 1, action: "exit"}
		if len(parts) > 1 {
			f.passage, _ = strconv.ParseInt(parts[1], 10, 64) // a number that is none stays 0, and is refused
		}
		if len(parts) > 2 {
			f.action = parts[2]
		}
		known := false
		for _, p := range Points() {
			known = known || p == f.point
		}
		if !known || f.passage < 1 || !slices.Contains([]string{"exit", "stop", "hang", "note"}, f.action) {
			refuse("PG_TIDE_FAULT: %q is not point[:passage[:exit|stop|hang|note]] with a point of this build", entry)
		}
		all = append(all, f)
	}
	return all
}

func readMutations(text string) map[Mutation]bool {
	on := map[Mutation]bool{}
	for name := range strings.SplitSeq(text, ",") {
		if name == "" {
			continue
		}
		known := false
		for _, m := range Mutations() {
			known = known || m == Mutation(name)
		}
		if !known {
			refuse("PG_TIDE_MUTANT: %q is no mutation of this build", name)
		}
		on[Mutation(name)] = true
		fmt.Fprintf(os.Stderr, "%s: this relay is wrong on purpose: %s\n", marker, name)
	}
	return on
}

// refuse ends the process: a test that breaks nothing by mistake would pass.
func refuse(format string, a ...any) {
	fmt.Fprintf(os.Stderr, marker+": "+format+"\n", a...)
	os.Exit(2)
}
