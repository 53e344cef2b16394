// Command mutate tortures a relay that is wrong on purpose, in one way after
// another, and prints what the torture said of each. A mutation that nobody
// noticed is the program's failure: then the torture could not be believed
// either. It judges nothing itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/torture"
	"github.com/pg-tide/pg-tide/internal/torture/check"
)

func main() {
	seed := flag.Uint64("seed", 1, "what all is drawn from")
	only := flag.String("only", "", "mutations to try, divided by commas (default all)")
	attempts := flag.Int("attempts", 3, "seeds to try until a mutation is noticed")
	controls := flag.Bool("controls", true, "show first that a right relay is not blamed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *seed, *only, *attempts, *controls)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, seed uint64, only string, attempts int, controls bool) error {
	dir, err := os.MkdirTemp("", "pg-tide-mutate-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it goes with the machine's other temporary files
	program := filepath.Join(dir, "pg-tide")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "tide_faults", "-o", program, "./cmd/pg-tide")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the relay that can be wrong: %w\n%s", err, out)
	}
	fmt.Println("| mutation | faults | what the torture said | after |\n|---|---|---|---|")
	var survived []string
	blameless := map[setting]bool{}
	for _, t := range trials() {
		if only != "" && !slices.Contains(strings.Split(only, ","), string(t.mutant)) {
			continue
		}
		if controls && !blameless[t.setting] {
			blameless[t.setting] = true
			o, err := t.torture(ctx, program, "", seed)
			if err != nil {
				return err
			}
			o.print("none", t.faults)
			if len(o.troubles) > 0 {
				return fmt.Errorf("a right relay was blamed with the faults %s and seed %d: %s", t.faults, seed, o)
			}
		}
		noticed, err := t.attempt(ctx, program, seed, attempts)
		if err != nil {
			return err
		}
		if !noticed {
			survived = append(survived, string(t.mutant))
		}
	}
	if len(survived) > 0 {
		return fmt.Errorf("nobody noticed: %s", strings.Join(survived, ", "))
	}
	return nil
}

// setting is what a torture does besides.
type setting struct {
	faults string
	length time.Duration
}

// trial is a mutation with the faults that show it, and the trouble that it
// must make.
type trial struct {
	mutant fault.Mutation
	setting
	makes string
}

// trials leave out what a torture gives no occasion for: it publishes nothing
// that deserves a dead letter, knows events by the id that the inbox gives
// them, and sees a fence only by what passes it. The tests of the built binary
// have these, and all others too (TestAWrongRelayIsNoticed).
func trials() []trial {
	quiet := setting{"none", 15 * time.Second}
	kills := setting{"relay-kill,worker-crash", 30 * time.Second}
	broker := setting{"broker-kill,broker-cut,broker-full", 30 * time.Second}
	crashes := setting{"postgres-crash,async-commit", 40 * time.Second}
	return []trial{
		{fault.ReadByID, quiet, "lost"},
		{fault.CutLate, quiet, "lost"},
		{fault.LateInListOnly, quiet, "lost"},
		{fault.AcknowledgeBeforeInsert, kills, "lost"},
		{fault.ReuseAckAll, kills, "lost"},
		{fault.ReuseAckEach, kills, "disordered"},
		{fault.SaveBeforeReceipt, broker, "lost"},
		{fault.ClientResends, broker, "disordered"},
		{fault.PositionInMemory, crashes, "lost"},
		{fault.ReadUnflushed, crashes, "invented"},
	}
}

// outcome is what a torture said, and after how long: the kinds of trouble at
// any hop, and those of the first hop that had some.
type outcome struct {
	troubles map[string]bool
	first    string
	counts   []string
	events   int
	took     time.Duration
}

func (t trial) attempt(ctx context.Context, program string, seed uint64, attempts int) (bool, error) {
	for n := range attempts {
		o, err := t.torture(ctx, program, t.mutant, seed+uint64(n))
		if err != nil {
			return false, err
		}
		o.print(string(t.mutant), t.faults)
		if o.troubles[t.makes] {
			return true, nil
		}
	}
	return false, nil
}

func (s setting) torture(ctx context.Context, program string, mutant fault.Mutation, seed uint64) (outcome, error) {
	begin := time.Now()
	report, err := torture.Run(ctx, torture.Options{
		For: s.length, Seed: seed, Faults: s.faults, Every: 2 * time.Second, Patience: 15 * time.Second,
		Program: program, Environment: []string{"PG_TIDE_MUTANT=" + string(mutant)},
	})
	if err != nil {
		return outcome{}, fmt.Errorf("torture %s: %w", mutant, err)
	}
	o := outcome{troubles: map[string]bool{}, events: report.Events, took: time.Since(begin)}
	for _, hop := range report.Hops {
		o.take(hop)
	}
	if report.Dir != "" {
		_ = os.RemoveAll(report.Dir) // the seed gives it again
	}
	return o, nil
}

func (o *outcome) take(hop check.Verdict) {
	if hop.Clean() {
		return
	}
	first := o.first == ""
	if first {
		o.first = hop.Hop
	}
	for _, one := range []struct {
		name string
		n    int
	}{{"lost", hop.Lost}, {"doubled", hop.Doubled}, {"invented", hop.Invented}, {"disordered", hop.Disordered}} {
		if one.n == 0 {
			continue
		}
		o.troubles[one.name] = true
		if first {
			o.counts = append(o.counts, fmt.Sprintf("%d %s", one.n, one.name))
		}
	}
}

func (o outcome) String() string {
	if o.first == "" {
		return fmt.Sprintf("nothing; %d events", o.events)
	}
	return fmt.Sprintf("%s at the %s, of %d events", strings.Join(o.counts, ", "), o.first, o.events)
}

func (o outcome) print(mutant, faults string) {
	fmt.Printf("| `%s` | %s | %s | %s |\n", mutant, faults, o, o.took.Round(time.Second))
}
