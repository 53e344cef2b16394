package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pg-tide/pg-tide/internal/bench/fanout"
	"github.com/pg-tide/pg-tide/internal/bench/kafka"
	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/turns"
	"github.com/pg-tide/pg-tide/internal/bench/working"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

// measurement is one case: it fills the report.
type measurement struct {
	name, about string
	run         func(ctx context.Context, b *run) ([]report.Result, error)
}

// over is the same case over a bus.
func (m *measurement) over(bus string) func(ctx context.Context, b *run) ([]report.Result, error) {
	if measure := overKafka(m.name); bus == BusKafka && measure != nil {
		return with(measure, func(b *run) kafka.Options {
			return kafka.Options{Events: b.options.Events, Rounds: b.options.Rounds, Sizes: b.options.Sizes, Shape: b.shape()}
		})
	}
	return m.run
}

// overKafka is the case as it is over Kafka; nil where there is none.
func overKafka(name string) func(context.Context, *world.World, kafka.Options) ([]report.Result, error) {
	switch name {
	case "forward":
		return kafka.Forward
	case "reverse":
		return kafka.Reverse
	}
	return nil
}

// with is a case that another package measures.
func with[O any](measure func(context.Context, *world.World, O) ([]report.Result, error), options func(b *run) O) func(context.Context, *run) ([]report.Result, error) {
	return func(ctx context.Context, b *run) ([]report.Result, error) { return measure(ctx, b.World, options(b)) }
}

// measurements are all cases, in the order in which they run.
func measurements() []measurement {
	return []measurement{
		{"publish", "commits with one event, by sessions", measurePublish},
		{"shared", "the same with a relay on the machine that carries them", measureShared},
		{"bulk", "many events in one transaction", measureBulk},
		{"forward", "a backlog from PostgreSQL to the broker", measureForward},
		{"reverse", "a backlog from the broker to the inbox", measureReverse},
		{"both", "three services that send and receive at once", measureBoth},
		{"latency", "from the commit to the inbox, at a steady rate", measureLatency},
		{"quiet", "the same on a bus where next to nothing happens", measureQuiet},
		{"idle", "what twenty pipelines cost that have nothing to do", measureIdle},
		{"many", "a hundred pipelines, beside one", measureMany},
		{"fanout", "the second and the tenth pipeline of one outbox, beside the first", with(fanout.Measure, func(b *run) fanout.Options {
			return fanout.Options{Events: b.options.Events, Size: b.options.Sizes[0], Rounds: b.options.Rounds, Shape: b.shape()}
		})},
		{"stranger", "a backlog behind transactions that stay open", measureStranger},
		{"backlog", "a relay that starts late, before fifty times the events", measureBacklog},
		{"inbox", "taking and marking in a large inbox", with(working.Inbox, (*run).working)},
		{"work", "workers that claim and complete all of an inbox", with(working.Work, (*run).working)},
		{churnCase, "fifty times the events through an inbox; only when named", with(working.Churn, (*run).working)},
	}
}

// churnCase takes longer than all others and is measured only when it is named.
const churnCase = "churn"

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

// run is one call of Run.
type run struct {
	*world.World
	options Options
}

// shape is how the pipelines are configured.
func (b *run) shape() world.Shape {
	return world.Shape{Lanes: b.options.Lanes, BatchSize: b.options.BatchSize}
}

func (b *run) working() working.Options {
	return working.Options{Events: b.options.Events, Size: b.options.Sizes[0], Rounds: b.options.Rounds}
}

// Run measures and returns the report. Whatever it started or made is gone
// when it returns.
func Run(ctx context.Context, options Options) (r *report.Report, err error) {
	options, err = options.settle()
	if err != nil {
		return nil, err
	}
	r = &report.Report{Machine: report.ThisMachine(), Begun: time.Now()}
	w, err := world.Build(ctx, options.world())
	if w != nil {
		defer func() { err = errors.Join(err, w.Close(ctx)) }()
	}
	if err != nil {
		return nil, err
	}
	r.Machine.PostgreSQL, r.Machine.NATS, r.Machine.Kafka = w.PostgresVersion, w.NATSVersion(), w.KafkaVersion()
	for _, m := range measurements() {
		if !slices.Contains(options.Cases, m.name) {
			continue
		}
		w.Progress.Say(m.name + ": " + m.about)
		results, err := m.over(options.Bus)(ctx, &run{World: w, options: options})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		r.Results = append(r.Results, results...)
	}
	w.Progress.Done()
	r.Took = time.Since(r.Begun).Seconds()
	return r, nil
}

// runner does one run of a contender and returns its value.
type runner = turns.Runner

// alternate has the contenders take turns.
func (b *run) alternate(ctx context.Context, what string, runners ...runner) ([]report.Contender, error) {
	return turns.Take(ctx, b.Progress, b.options.Rounds, what, runners...)
}
