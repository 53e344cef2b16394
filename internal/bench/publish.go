package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/bench/load"
	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/turns"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

const (
	// slice is how long a contender publishes before it is another's turn, and
	// slicesEach how many there are for each round that was asked for: such
	// short turns see the same machine.
	slice      = 300 * time.Millisecond
	slicesEach = 8
	// warmUp is how long sessions publish before anything is measured.
	warmUp = time.Second

	// bulkEvents is how many events one transaction has where many are measured.
	bulkEvents = 1000

	publishPromised = 0.80
	sharedPromised  = 0.65
	bulkPromised    = 0.70
)

// publishSessions are how many sessions publish at once. The promise is about
// the last two.
var publishSessions = []int{1, 4, 16, 32}

// payloadOf is a JSON document of a number of bytes.
func payloadOf(size int) string {
	const frame = `{"n": 1, "text": ""}`
	return `{"n": 1, "text": "` + strings.Repeat("x", max(0, size-len(frame))) + `"}`
}

// measurePublish commits one event at a time, with no relay on the machine.
func measurePublish(ctx context.Context, b *run) ([]report.Result, error) {
	s, err := b.byHand(ctx)
	if err != nil {
		return nil, err
	}
	var results []report.Result
	measure := func(n int, t load.Task, how string) error {
		result, err := b.publishOf(ctx, s, n, t, how)
		results = append(results, result)
		return err
	}
	for _, n := range publishSessions {
		if err := measure(n, load.Task{Prepared: true}, "prepared"); err != nil {
			return nil, err
		}
	}
	for _, n := range publishSessions {
		if err := measure(n, load.Task{}, "not prepared"); err != nil {
			return nil, err
		}
	}
	if err := measure(publishSessions[2], load.Task{Prepared: true, Change: changeSQL}, "beside a row of the service's own"); err != nil {
		return nil, err
	}
	return results, b.Drop(ctx, s)
}

// byHand is a service with an outbox of ours and one as written by hand.
func (b *run) byHand(ctx context.Context) (*world.Service, error) {
	s, err := b.Service(ctx, "publisher")
	if err != nil {
		return nil, err
	}
	if err := s.CreateOutbox(ctx, "orders"); err != nil {
		return nil, err
	}
	for _, statement := range strings.Split(byHandSQL, "\n\n") {
		if err := s.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// publishOf has a plain insert, a function that does nothing but that insert,
// and the product take turns.
func (b *run) publishOf(ctx context.Context, s *world.Service, n int, t load.Task, how string) (r report.Result, err error) {
	promised := 0.0
	if n >= 16 && t.Change == "" {
		promised = publishPromised
	}
	of := fmt.Sprintf("%d B, %d sessions, %s", b.options.Sizes[0], n, how)
	c, err := b.slices(ctx, s, n, t, "publish, "+of, func() error { return nil })
	if err != nil {
		return r, err
	}
	return report.Compare("publish", of, "commits/s", c[2], c[0].Beside(promised), c[1].Beside(0)), nil
}

// slices are the commits per second of a plain insert, of a function that
// inserts, and of the product, in short turns with a rest after each.
func (b *run) slices(ctx context.Context, s *world.Service, n int, t load.Task, what string, rest func() error) ([]report.Contender, error) {
	t.Payload = payloadOf(b.options.Sizes[0])
	names := []string{"plain insert", "function that inserts", "pg_tide"}
	all := make([]*load.Sessions, len(names))
	for i, sql := range []string{insertSQL, insertByFunctionSQL, publishSQL} {
		var err error
		t.SQL = sql
		all[i], err = load.Connect(ctx, s.DSN, n, t)
		defer all[i].Close(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := all[i].Commits(ctx, warmUp); err != nil {
			return nil, fmt.Errorf("%s: %w", names[i], err)
		}
	}
	contenders := make([]report.Contender, len(names))
	for round := range b.options.Rounds * slicesEach {
		b.Progress.Show(fmt.Sprintf("%s: slice %d of %d", what, round+1, b.options.Rounds*slicesEach))
		for i := range all {
			if err := rest(); err != nil {
				return nil, err
			}
			rate, err := all[i].Commits(ctx, slice)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", names[i], err)
			}
			contenders[i].Name = names[i]
			contenders[i].Values = append(contenders[i].Values, rate)
		}
	}
	return contenders, nil
}

// measureShared is the same while a relay on the same machine carries what is
// published. Before each turn it has caught up: no contender pays for another's.
func measureShared(ctx context.Context, b *run) ([]report.Result, error) {
	s, err := b.byHand(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := b.newStream(ctx); err != nil {
		return nil, err
	}
	if err := s.Forward(ctx, "out", "orders", b.Durable("events"), b.Subject("events"), b.shape()); err != nil {
		return nil, err
	}
	if err := s.StartRelay(ctx); err != nil {
		return nil, err
	}
	caughtUp := func() error {
		return turns.Until(ctx, lookEvery, func() (caughtUp bool, err error) {
			if err := s.Conn.QueryRow(ctx, caughtUpSQL).Scan(&caughtUp); err != nil {
				return false, fmt.Errorf("ask whether the relay has caught up: %w", err)
			}
			return caughtUp, s.Alive()
		})
	}
	var results []report.Result
	for _, n := range publishSessions[2:] {
		of := fmt.Sprintf("%d B, %d sessions, prepared", b.options.Sizes[0], n)
		c, err := b.slices(ctx, s, n, load.Task{Prepared: true}, "shared, "+of, caughtUp)
		if err != nil {
			return nil, err
		}
		results = append(results, report.Compare("shared", of, "commits/s", c[2], c[0].Beside(sharedPromised), c[1].Beside(0)))
	}
	return results, errors.Join(b.Drop(ctx, s), b.removeEvents(ctx))
}

// measureBulk writes many events in one transaction and one statement.
func measureBulk(ctx context.Context, b *run) ([]report.Result, error) {
	s, err := b.byHand(ctx)
	if err != nil {
		return nil, err
	}
	payload := payloadOf(b.options.Sizes[0])
	write := func(sql string) func(ctx context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			begun, events := time.Now(), 0
			for ; time.Since(begun) < time.Second; events += bulkEvents {
				if err := s.Exec(ctx, sql, bulkEvents, payload); err != nil {
					return 0, err
				}
			}
			return turns.Since(events, begun), nil
		}
	}
	var results []report.Result
	for _, way := range []struct {
		how, sql string
		promised float64
	}{{"in one call", publishManySQL, bulkPromised}, {"a call for each", publishEachSQL, 0}} {
		of := fmt.Sprintf("%d B, %d events in a transaction, %s", b.options.Sizes[0], bulkEvents, way.how)
		c, err := b.alternate(ctx, "bulk, "+of, runner{Name: "insert … select", Run: write(insertManySQL)}, runner{Name: "pg_tide", Run: write(way.sql)})
		if err != nil {
			return nil, err
		}
		results = append(results, report.Compare("bulk", of, "events/s", c[1], c[0].Beside(way.promised)))
	}
	return results, b.Drop(ctx, s)
}
