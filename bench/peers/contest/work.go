package contest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pg-tide/pg-tide/bench/peers/claims"
	"github.com/pg-tide/pg-tide/bench/peers/river"
	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/internal/process"
)

// worked is a way to work messages that ask for nothing.
type worked struct {
	name, version, loop string
	fill                func(ctx context.Context, d *database, messages, size int) error
	leftSQL             string
}

// workers are ours, and then the one that they are compared with.
func workers() []worked {
	ours := func(ctx context.Context, d *database, messages, size int) error {
		return claims.SetUp(ctx, d.conn, messages, size)
	}
	return []worked{
		{name: product + ", by SQL", version: "this", loop: "tide-sql", fill: ours, leftSQL: claims.LeftSQL},
		{name: product + ", Go library", version: "this", loop: "tide-library", fill: ours, leftSQL: claims.LeftSQL},
		{name: "River", version: riverVersion, loop: "river", leftSQL: river.LeftSQL,
			fill: func(ctx context.Context, d *database, messages, size int) error {
				if err := river.SetUp(ctx, d.dsn); err != nil {
					return err
				}
				return river.Fill(ctx, d.dsn, messages, size)
			}},
	}
}

// work has each contestant work a backlog, in turns.
func (p *place) work(ctx context.Context, all []worked) (lines []*Line, err error) {
	for _, w := range all {
		lines = append(lines, &Line{Name: w.name, Version: w.version, Events: p.options.Events})
	}
	for round := range p.options.Rounds + 1 {
		for turn := range all {
			i := (turn + round) % len(all) // nobody always has the same neighbour
			rate, err := p.workOnce(ctx, &all[i], p.options.backlog(false, round))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[i].name, err)
			}
			p.say("work, round %d of %d: %s, %.0f messages/s", round, p.options.Rounds, all[i].name, rate)
			if round > 0 {
				lines[i].Rates = append(lines[i].Rates, rate)
			}
		}
	}
	compareWork(lines)
	return lines, nil
}

// workOnce is the rate from the first commit that settles messages to the last.
func (p *place) workOnce(ctx context.Context, w *worked, messages int) (rate float64, err error) {
	d, err := p.database(ctx)
	if d != nil {
		defer func() { err = errors.Join(err, p.drop(ctx, d)) }()
	}
	if err != nil {
		return 0, err
	}
	if err := w.fill(ctx, d, messages, p.options.Size); err != nil {
		return 0, fmt.Errorf("fill: %w", err)
	}
	for _, sql := range []string{"vacuum (analyze)", "checkpoint"} {
		if err := d.run(ctx, sql); err != nil {
			return 0, err
		}
	}
	running, err := p.start(ctx, func(ctx context.Context, log io.Writer) (*process.Process, error) {
		return process.Start(ctx, process.Options{Program: p.options.Self, Arguments: []string{"work", w.loop, fmt.Sprint(messages)},
			Environment: []string{target.Target{Postgres: d.dsn}.Environment()}, Output: log})
	})
	if err != nil {
		return 0, err
	}
	defer running.end()
	if err := until(ctx, func() (bool, error) { return !running.Running(), nil }); err != nil {
		return 0, fmt.Errorf("%w; %s", err, running.tail())
	}
	text, err := os.ReadFile(running.log)
	if err != nil {
		return 0, err
	}
	var did target.Work
	if err := json.Unmarshal(text, &did); err != nil || did.Messages != messages {
		return 0, fmt.Errorf("it did not work all: %s", running.tail())
	}
	var left int
	if err := d.conn.QueryRow(ctx, w.leftSQL).Scan(&left); err != nil || left > 0 {
		return 0, fmt.Errorf("%d messages are left: %w", left, err)
	}
	return did.Rate, nil
}

// compareWork fills in what ours are of the last.
func compareWork(lines []*Line) {
	last := lines[len(lines)-1]
	for _, l := range lines {
		var ratios []float64
		for i := range l.Rates {
			ratios = append(ratios, l.Rates[i]/last.Rates[i])
		}
		l.Median, l.Ratio = median(l.Rates), Spread{Median: median(ratios), Low: least(ratios), High: greatest(ratios)}
	}
}
