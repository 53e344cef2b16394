package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// measurement is one case: it fills the report.
type measurement struct {
	name, about string
	run         func(ctx context.Context, w *world) ([]Result, error)
}

// measurements are all cases, in the order in which they run.
func measurements() []measurement {
	return []measurement{
		{"publish", "commits with one event, by sessions", measurePublish},
		{"bulk", "many events in one transaction", measureBulk},
		{"forward", "a backlog from PostgreSQL to JetStream", measureForward},
		{"reverse", "a backlog from JetStream to the inbox", measureReverse},
		{"latency", "from the commit to the inbox, at a steady rate", measureLatency},
		{"quiet", "the same on a bus where next to nothing happens", measureQuiet},
		{"idle", "what twenty pipelines cost that have nothing to do", measureIdle},
	}
}

// CaseNames are the names of all cases.
func CaseNames() []string {
	var names []string
	for _, m := range measurements() {
		names = append(names, m.name)
	}
	return names
}

// About says in a line for each case what it measures.
func About() string {
	text := ""
	for _, m := range measurements() {
		text += fmt.Sprintf("  %-9s %s\n", m.name, m.about)
	}
	return text
}

// Run measures and returns the report. Whatever it started or made is gone
// when it returns.
func Run(ctx context.Context, options Options) (report *Report, err error) {
	options, err = options.settle()
	if err != nil {
		return nil, err
	}
	report = &Report{Machine: thisMachine(), Begun: time.Now()}
	w, err := build(ctx, options)
	if w != nil {
		defer func() { err = errors.Join(err, w.close(ctx)) }()
	}
	if err != nil {
		return nil, err
	}
	report.Machine.PostgreSQL, report.Machine.NATS = w.postgresVersion, w.natsVersion()
	for _, m := range measurements() {
		if !w.wants(m.name) {
			continue
		}
		w.progress.say(m.name + ": " + m.about)
		results, err := m.run(ctx, w)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		report.Results = append(report.Results, results...)
	}
	w.progress.done()
	report.Took = time.Since(report.Begun).Seconds()
	return report, nil
}

// runner does one run of a contender and returns its value.
type runner struct {
	name string
	run  func(ctx context.Context) (float64, error)
}

// alternate has the contenders take turns: a machine is never the same for
// long, and neighbours in time see the same one. The first round warms up.
func (w *world) alternate(ctx context.Context, what string, runners ...runner) ([]Contender, error) {
	contenders := make([]Contender, len(runners))
	for round := range w.options.Rounds + 1 {
		for i, r := range runners {
			w.progress.show(fmt.Sprintf("%s: %s, round %d of %d", what, r.name, round, w.options.Rounds))
			value, err := r.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
			contenders[i].Name = r.name
			if round > 0 {
				contenders[i].Values = append(contenders[i].Values, value)
			}
		}
	}
	return contenders, nil
}
