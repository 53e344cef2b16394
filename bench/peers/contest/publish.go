package contest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/bench/load"
)

const (
	sessions = 16
	// slice is how long a contestant publishes before it is another's turn;
	// each has slicesEach of them in a round.
	slice      = 300 * time.Millisecond
	slicesEach = 3
	warmUp     = time.Second
)

// publish has sessions commit one event at a time by each contestant's way of
// publishing, with no relay on the machine.
func (p *place) publish(ctx context.Context, outs []outbox, r *Report) (err error) {
	payload := `{"n": 1, "text": "` + strings.Repeat("x", max(0, p.options.Size-20)) + `"}`
	all := make([]*load.Sessions, len(outs))
	for i := range outs {
		d, err := p.ready(ctx, &outs[i])
		if d != nil {
			defer func() { err = errors.Join(err, p.drop(ctx, d)) }()
		}
		if err != nil {
			return failed(outs[i].name, err)
		}
		all[i], err = load.Connect(ctx, d.dsn, sessions, load.Task{SQL: outs[i].publishSQL, Payload: payload, Prepared: true})
		defer all[i].Close(ctx)
		if err != nil {
			return failed(outs[i].name, err)
		}
		if _, err := all[i].Commits(ctx, warmUp); err != nil {
			return failed(outs[i].name, err)
		}
	}
	for range p.options.Rounds * slicesEach {
		for i := range all {
			rate, err := all[i].Commits(ctx, slice)
			if err != nil {
				return failed(outs[i].name, err)
			}
			r.Out[i].Commits = append(r.Out[i].Commits, rate)
		}
	}
	for i := range all {
		p.say("publish: %s, %.0f commits/s", outs[i].name, median(r.Out[i].Commits))
	}
	return nil
}
