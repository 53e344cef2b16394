package torture

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pg-tide/pg-tide/internal/torture/check"
	"github.com/pg-tide/pg-tide/internal/torture/plan"
)

// Print writes the report for people.
func (r *Report) Print(to io.Writer) {
	fmt.Fprintf(to, "\nseed %d, PostgreSQL %s, %s: %d events committed in %s, at rest %s later\n\n",
		r.Seed, r.Postgres, r.Broker, r.Events, r.Traffic.Round(time.Second), r.Rest.Round(100*time.Millisecond))
	table := tabwriter.NewWriter(to, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\twanted\tarrived\tlost\tdoubled\tinvented\tdisordered\trepeated\tworst stall\tin quiet\t")
	for _, v := range r.Hops {
		var most check.Stall
		for _, s := range r.Stalls {
			if s.Hop == v.Hop {
				most.Worst, most.Quiet = max(most.Worst, s.Worst), max(most.Quiet, s.Quiet)
			}
		}
		worst, quiet := seconds(most.Worst), seconds(most.Quiet)
		if most.Worst == 0 {
			worst, quiet = "", ""
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t\n", v.Hop, v.Wanted, v.Arrived,
			v.Lost, v.Doubled, v.Invented, v.Disordered, v.Repeated, worst, quiet)
	}
	_ = table.Flush() // there is nobody to tell that a terminal is gone
	fmt.Fprintln(to)
	r.printFaults(to)
	r.printTimes(to)
	r.printUse(to)
	r.printVerdict(to)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

func (r *Report) printFaults(to io.Writer) {
	var done []string
	for _, kind := range plan.All() {
		if n := r.Faults[kind]; n > 0 {
			done = append(done, fmt.Sprintf("%s %d", kind, n))
		}
	}
	if len(done) > 0 {
		fmt.Fprintf(to, "faults: %s\n", strings.Join(done, ", "))
	}
	var failed []string
	for _, kind := range plan.All() {
		if n := r.Failed[kind]; n > 0 {
			failed = append(failed, fmt.Sprintf("%s %d", kind, n))
		}
	}
	if len(failed) > 0 {
		fmt.Fprintf(to, "could not be done: %s\n", strings.Join(failed, ", "))
	}
}

// printTimes shows take-overs that nothing else disturbed, and drains.
func (r *Report) printTimes(to io.Writer) {
	for _, kind := range []plan.Kind{plan.RelayKill, plan.RelayFreeze, plan.RelayStop} {
		var owned, saved time.Duration
		n, alone := 0, 0
		for _, t := range r.Takeovers {
			if t.Kind != kind {
				continue
			}
			n++
			if !t.Disturbed {
				alone++
				owned, saved = max(owned, t.Owned), max(saved, t.Saved)
			}
		}
		if n > 0 {
			fmt.Fprintf(to, "take-overs after %s: %d", kind, n)
			if alone > 0 {
				fmt.Fprintf(to, "; of %d that nothing else disturbed: owned again within %s, first save within %s", alone, seconds(owned), seconds(saved))
			}
			fmt.Fprintln(to)
		}
	}
	var worst time.Duration
	for _, d := range r.Drains {
		worst = max(worst, d.Took)
	}
	if len(r.Drains) > 0 {
		fmt.Fprintf(to, "SIGTERM: %d, the longest took %s\n", len(r.Drains), seconds(worst))
	}
}

func (r *Report) printUse(to io.Writer) {
	var bytes, goroutines, files, connections int64
	for _, use := range r.Most {
		bytes, goroutines, files = max(bytes, use.Bytes), max(goroutines, use.Goroutines), max(files, use.Files)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Connections)) {
		connections = max(connections, r.Connections[name])
	}
	fmt.Fprintf(to, "the most that a relay used: %d MiB, %d goroutines, %d files; relays of one database: %d connections\n",
		bytes>>20, goroutines, files, connections)
}

func (r *Report) printVerdict(to io.Writer) {
	if r.Clean() {
		fmt.Fprintln(to, "\nno promise was broken")
	} else {
		fmt.Fprintf(to, "\n%d findings:\n", len(r.Broken))
		for _, broken := range r.Broken {
			fmt.Fprintf(to, "  %s\n", broken)
		}
	}
	if len(r.Story) > 0 {
		fmt.Fprintf(to, "\nthe first of them, from hop to hop:\n  %s\n", strings.Join(r.Story, "\n  "))
	}
	if r.Dir != "" {
		fmt.Fprintf(to, "logs, ledgers, schedule and report are in %s\n", r.Dir)
	}
}
