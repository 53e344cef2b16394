// Package turns has contenders do the same work one after the other, again
// and again, and waits for what they do. It refuses to know what the work is.
package turns

import (
	"context"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/bench/report"
	"github.com/pg-tide/pg-tide/internal/bench/world"
)

// Runner does one run of a contender and returns its value.
type Runner struct {
	Name string
	Run  func(ctx context.Context) (float64, error)
}

// Take has the contenders take turns: a machine is never the same for long,
// and neighbours in time see the same one. The first round warms up.
func Take(ctx context.Context, progress *world.Progress, rounds int, what string, runners ...Runner) ([]report.Contender, error) {
	contenders := make([]report.Contender, len(runners))
	for round := range rounds + 1 {
		for i, r := range runners {
			progress.Show(fmt.Sprintf("%s: %s, round %d of %d", what, r.Name, round, rounds))
			value, err := r.Run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
			contenders[i].Name = r.Name
			if round > 0 {
				contenders[i].Values = append(contenders[i].Values, value)
			}
		}
	}
	return contenders, nil
}

// moveTimeout bounds the wait for anything to arrive.
const moveTimeout = 15 * time.Minute

// Until asks again and again, a few milliseconds apart.
func Until(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if is, err := done(); is || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", ctx.Err())
		}
	}
}

// Tenths looks again and again at how many of some events have arrived, until
// all have, and returns the rate of each tenth of them. So many had arrived
// before; show is told of each tenth.
func Tenths(ctx context.Context, every time.Duration, from, events int, look func() (held int, err error), show func(held int, rate float64)) (rates []float64, err error) {
	since := time.Now()
	err = Until(ctx, every, func() (bool, error) {
		held, err := look()
		if err != nil {
			return false, err
		}
		if held >= (len(rates)+1)*events/10 {
			rates = append(rates, Since(held-from, since))
			from, since = held, time.Now()
			show(held, rates[len(rates)-1])
		}
		return held >= events, nil
	})
	return rates, err
}

// Since is the rate of what has moved since a time.
func Since(events int, begun time.Time) float64 { return float64(events) / time.Since(begun).Seconds() }
