// Package contest runs the peers beside pg_tide: the same servers, the same
// events, in turns. It measures how fast each moves a backlog, how fast
// sessions commit with each one's way of publishing, and what each loses,
// doubles and disorders while transactions overlap. It refuses to judge.
package contest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pg-tide/pg-tide/bench/peers/debezium"
	"github.com/pg-tide/pg-tide/internal/bench/report"
)

// Options say what is measured.
type Options struct {
	// Program is the pg-tide that is measured, Self the program with the loops.
	Program, Self string
	// Events is the backlog of a run; SlowEvents that of the slow ones.
	Events, SlowEvents int
	// Size is that of a payload, in bytes.
	Size int
	// Rounds is how often each runs.
	Rounds int
	// Writing is how long the writers of overlapping transactions write.
	Writing time.Duration
	// Only names contestants to run beside ours; none means all.
	Only []string
	// Part is the one to measure; empty means all of them.
	Part string
	// Progress gets what is going on.
	Progress io.Writer
}

// Run measures everything.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	r = &Report{Machine: report.ThisMachine(), Begun: time.Now().UTC().Truncate(time.Second),
		Events: o.Events, SlowEvents: o.SlowEvents, Size: o.Size, Rounds: o.Rounds, WritingSeconds: o.Writing.Seconds()}
	p, err := open(ctx, o)
	if p != nil {
		defer func() { err = errors.Join(err, p.close(ctx)) }()
	}
	if err != nil {
		return nil, err
	}
	r.Machine.PostgreSQL = p.admin.PgConn().ParameterStatus("server_version")
	r.Machine.NATS = p.nats.ConnectedServerVersion()
	server, err := p.debezium(ctx)
	if err != nil && o.Part != "work" {
		r.LeftOut = append(r.LeftOut, LeftOut{Name: "Debezium Server", Why: err.Error()})
	}
	outs, ins := chosen(outboxes(o, server), o.Only), chosenInboxes(inboxes(o), o.Only)
	for i := range outs {
		r.Out = append(r.Out, &Line{Name: outs[i].name, Version: outs[i].version, Events: o.backlog(outs[i].slow, 1)})
	}
	for i := range ins {
		r.In = append(r.In, &Line{Name: ins[i].name, Version: ins[i].version, Events: o.backlog(ins[i].slow, 1)})
	}
	known := false
	for _, part := range []struct {
		name string
		run  func(ctx context.Context) error
	}{
		{"forward", func(ctx context.Context) error { return p.forward(ctx, outs, r.Out) }},
		{"reverse", func(ctx context.Context) error { return p.reverse(ctx, ins, r.In) }},
		{"publish", func(ctx context.Context) error { return p.publish(ctx, outs, r.Out) }},
		{"overlap", func(ctx context.Context) error { return p.overlap(ctx, outs, r.Out) }},
		{"work", func(ctx context.Context) (err error) { r.Work, err = p.work(ctx, workers()); return err }},
	} {
		if o.Part != "" && o.Part != part.name {
			continue
		}
		known = true
		if err := part.run(ctx); err != nil {
			return nil, err
		}
	}
	if !known {
		return nil, fmt.Errorf("there is no part %q", o.Part)
	}
	r.leaveOut()
	r.compare()
	r.TookSeconds = time.Since(r.Begun).Round(time.Second).Seconds()
	return r, nil
}

// backlog is what a contestant moves in a round; less while it warms up.
func (o Options) backlog(slow bool, round int) int {
	events := o.Events
	if slow {
		events = min(o.Events, o.SlowEvents)
	}
	if round == 0 {
		events /= 4
	}
	return events
}

// debezium unpacks Debezium Server.
func (p *place) debezium(ctx context.Context) (*debezium.Server, error) {
	if !wanted("Debezium Server", p.options.Only) || p.options.Part == "work" {
		return nil, errors.New("not asked for")
	}
	p.say("unpacking Debezium Server")
	dir := filepath.Join(p.dir, "debezium")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	return debezium.Fetch(ctx, dir, p.options.Progress)
}

// failed notes that a peer cannot be run here, so that the others still are;
// ours, or being told to stop, is an error.
func (p *place) failed(ctx context.Context, l *Line, err error) error {
	if ctx.Err() != nil || l.Name == product {
		return fmt.Errorf("%s: %w", l.Name, err)
	}
	p.say("%s is left out: %v", l.Name, err)
	l.failed = err
	return nil
}
