package bench

import (
	"context"
	"fmt"
	"strings"
	"time"
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
func measurePublish(ctx context.Context, w *world) ([]Result, error) {
	s, err := w.byHand(ctx)
	if err != nil {
		return nil, err
	}
	var results []Result
	measure := func(n int, t task, how string) error {
		result, err := w.publishOf(ctx, s, n, t, how)
		results = append(results, result)
		return err
	}
	for _, n := range publishSessions {
		if err := measure(n, task{prepared: true}, "prepared"); err != nil {
			return nil, err
		}
	}
	for _, n := range publishSessions {
		if err := measure(n, task{}, "not prepared"); err != nil {
			return nil, err
		}
	}
	if err := measure(publishSessions[2], task{prepared: true, change: true}, "beside a row of the service's own"); err != nil {
		return nil, err
	}
	return results, w.drop(ctx, s)
}

// byHand is a service with an outbox of ours and one as written by hand.
func (w *world) byHand(ctx context.Context) (*service, error) {
	s, err := w.service(ctx, "publisher")
	if err != nil {
		return nil, err
	}
	if err := s.exec(ctx, outboxCreateSQL, "orders"); err != nil {
		return nil, err
	}
	for _, statement := range strings.Split(byHandSQL, "\n\n") {
		if err := s.exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// publishOf has a plain insert, a function that does nothing but that insert,
// and the product take turns.
func (w *world) publishOf(ctx context.Context, s *service, n int, t task, how string) (r Result, err error) {
	t.payload = payloadOf(w.options.Sizes[0])
	of := fmt.Sprintf("%d B, %d sessions, %s", w.options.Sizes[0], n, how)
	names := []string{"plain insert", "function that inserts", "pg_tide"}
	all := make([]*sessions, len(names))
	for i, sql := range []string{insertSQL, insertByFunctionSQL, publishSQL} {
		t.sql = sql
		all[i], err = connectAll(ctx, s.dsn, n, t)
		defer all[i].close(ctx)
		if err != nil {
			return r, err
		}
		if _, err := all[i].commits(ctx, warmUp); err != nil {
			return r, fmt.Errorf("%s: %w", names[i], err)
		}
	}
	contenders := make([]Contender, len(names))
	for round := range w.options.Rounds * slicesEach {
		w.progress.show(fmt.Sprintf("publish, %s: slice %d of %d", of, round+1, w.options.Rounds*slicesEach))
		for i := range all {
			rate, err := all[i].commits(ctx, slice)
			if err != nil {
				return r, fmt.Errorf("%s: %w", names[i], err)
			}
			contenders[i].Name = names[i]
			contenders[i].Values = append(contenders[i].Values, rate)
		}
	}
	promised := 0.0
	if n >= 16 && !t.change {
		promised = publishPromised
	}
	return compare("publish", of, "commits/s", contenders[2], yardsticked{contenders[0], promised}, yardsticked{contenders[1], 0}), nil
}

// measureBulk writes many events in one transaction and one statement.
func measureBulk(ctx context.Context, w *world) ([]Result, error) {
	s, err := w.byHand(ctx)
	if err != nil {
		return nil, err
	}
	payload := payloadOf(w.options.Sizes[0])
	write := func(sql string) func(ctx context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			begun, events := time.Now(), 0
			for ; time.Since(begun) < time.Second; events += bulkEvents {
				if err := s.exec(ctx, sql, bulkEvents, payload); err != nil {
					return 0, err
				}
			}
			return since(events, begun), nil
		}
	}
	of := fmt.Sprintf("%d B, %d events in a transaction", w.options.Sizes[0], bulkEvents)
	c, err := w.alternate(ctx, "bulk, "+of, runner{"insert … select", write(insertManySQL)}, runner{"pg_tide", write(publishManySQL)})
	if err != nil {
		return nil, err
	}
	return []Result{compare("bulk", of, "events/s", c[1], yardsticked{c[0], bulkPromised})}, w.drop(ctx, s)
}
