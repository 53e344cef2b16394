package contest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/bench/peers/target"
	"github.com/pg-tide/pg-tide/internal/process"
)

// chosen are ours and those whose names hold one of the words.
func chosen(all []outbox, only []string) []outbox {
	return slices.DeleteFunc(all, func(o outbox) bool { return !wanted(o.name, only) })
}

func wanted(name string, only []string) bool {
	return len(only) == 0 || name == product ||
		slices.ContainsFunc(only, func(word string) bool { return strings.Contains(name, word) })
}

// forward has each contestant move a backlog, in turns. The first round warms
// up and is not counted.
func (p *place) forward(ctx context.Context, outs []outbox, lines []*Line) error {
	for round := range p.options.Rounds + 1 {
		for turn := range outs {
			i := (turn + round) % len(outs) // nobody always has the same neighbour
			if lines[i].failed != nil {
				continue
			}
			rate, later, err := p.forwardOnce(ctx, &outs[i], p.options.backlog(outs[i].slow, round))
			if err != nil {
				if err := p.failed(ctx, lines[i], err); err != nil {
					return err
				}
				continue
			}
			p.say("forward, round %d of %d: %s, %.0f events/s", round, p.options.Rounds, outs[i].name, rate)
			if round > 0 {
				lines[i].Rates = append(lines[i].Rates, rate)
				lines[i].LaterRates = append(lines[i].LaterRates, later)
			}
		}
	}
	return nil
}

// forwardOnce is the rate from the first event in the stream to the last one:
// starting a program and connecting are no part of it. The later rate is that
// of the second half, when a virtual machine has compiled what is hot.
func (p *place) forwardOnce(ctx context.Context, o *outbox, events int) (rate, later float64, err error) {
	d, err := p.ready(ctx, o)
	if d != nil {
		defer func() { err = errors.Join(err, p.drop(ctx, d)) }()
	}
	if err != nil {
		return 0, 0, err
	}
	if err := d.fill(ctx, o.fillSQL, events, p.options.Size); err != nil {
		return 0, 0, err
	}
	stream, t, err := p.stream(ctx, d)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.js.DeleteStream(context.WithoutCancel(ctx), t.Stream)) }()
	if err := o.configure(ctx, d, t); err != nil {
		return 0, 0, err
	}
	running, err := p.start(ctx, o.starter(t))
	if err != nil {
		return 0, 0, err
	}
	defer running.end()
	before, err := arrived(ctx, running, stream, 1)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	half, err := arrived(ctx, running, stream, events/2)
	if err != nil {
		return 0, 0, err
	}
	halfway := time.Now()
	if _, err := arrived(ctx, running, stream, events); err != nil {
		return 0, 0, err
	}
	return since(events-before, begun), since(events-half, halfway), nil
}

func (o *outbox) starter(t target.Target) starter {
	return func(ctx context.Context, log io.Writer) (*process.Process, error) { return o.start(ctx, t, log) }
}

// arrived waits until a stream holds a number of messages, and says how many
// it holds then.
func arrived(ctx context.Context, running *program, stream jetstream.Stream, want int) (held int, err error) {
	err = until(ctx, func() (bool, error) {
		info, err := stream.Info(ctx)
		if err != nil {
			return false, err
		}
		held = int(info.State.Msgs)
		return held >= want, running.alive()
	})
	if err != nil {
		err = fmt.Errorf("%d of %d events arrived: %w; %s", held, want, err, running.tail())
	}
	return held, err
}

// since is the rate of what has moved since a time.
func since(events int, begun time.Time) float64 { return float64(events) / time.Since(begun).Seconds() }
