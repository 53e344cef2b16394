package contest

import (
	"context"
	"errors"
	"fmt"
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
// publishing, in short turns, with no relay on the machine.
func (p *place) publish(ctx context.Context, outs []outbox, lines []*Line) (result error) {
	all := make([]*load.Sessions, len(outs))
	for i := range outs {
		if lines[i].failed != nil {
			continue
		}
		d, err := p.ready(ctx, &outs[i])
		if d != nil {
			defer func() { result = errors.Join(result, p.drop(ctx, d)) }()
		}
		if err == nil {
			all[i], err = p.sessions(ctx, d, outs[i].publishSQL)
			defer all[i].Close(ctx)
		}
		if err == nil {
			continue
		}
		if err := p.failed(ctx, lines[i], err); err != nil {
			return err
		}
	}
	for range p.options.Rounds * slicesEach {
		for i := range all {
			if lines[i].failed != nil {
				continue
			}
			rate, err := all[i].Commits(ctx, slice)
			if err != nil {
				return fmt.Errorf("%s: %w", outs[i].name, err)
			}
			lines[i].Commits = append(lines[i].Commits, rate)
		}
	}
	for _, l := range lines {
		p.say("publish: %s, %.0f commits/s", l.Name, median(l.Commits))
	}
	return nil
}

// sessions are connected and have warmed up. They are to be closed, also
// beside an error.
func (p *place) sessions(ctx context.Context, d *database, sql string) (*load.Sessions, error) {
	payload := `{"n": 1, "text": "` + strings.Repeat("x", max(0, p.options.Size-20)) + `"}`
	s, err := load.Connect(ctx, d.dsn, sessions, load.Task{SQL: sql, Payload: payload, Prepared: true})
	if err == nil {
		_, err = s.Commits(ctx, warmUp)
	}
	return s, err
}
