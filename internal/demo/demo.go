package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

const (
	defaultFor  = 30 * time.Second
	defaultRate = 50
	shortest    = 4 * time.Second
	mostRate    = 5000
)

// Options say how long and how loud.
type Options struct {
	// For is how long the demo takes, from the first line to the verdict.
	For time.Duration
	// Rate is the number of orders a second; stock moves half as often.
	Rate int
	// Bus is BusNATS, which is the default, or BusKafka; Brokers are addresses
	// of a Kafka to use instead of an embedded one.
	Bus, Brokers string
	// Keep leaves everything running after the verdict, until ctx ends.
	Keep bool
	Out  io.Writer
	// Size asks the terminal for its size; nil when Out is none.
	Size func() (width, height int)
	// Color allows colours on a terminal.
	Color bool
	// Relay runs the relay of the database at postgresURL until ctx ends.
	Relay func(ctx context.Context, postgresURL string, logger *slog.Logger) error
}

// OptionError is a wrong option: the caller's mistake.
type OptionError struct{ text string }

// Error names the option, its value and the rule.
func (e *OptionError) Error() string { return e.text }

func (o Options) withDefaults() (Options, error) {
	if o.For == 0 {
		o.For = defaultFor
	}
	if o.Rate == 0 {
		o.Rate = defaultRate
	}
	if o.Bus == "" {
		o.Bus = BusNATS
	}
	if err := o.check(); err != nil {
		return o, err
	}
	switch {
	case o.For < shortest:
		return o, &OptionError{fmt.Sprintf("the demo cannot take %s: it needs at least %s to start, show and compare", o.For, shortest)}
	case o.Rate < 1 || o.Rate > mostRate:
		return o, &OptionError{fmt.Sprintf("the demo cannot make %d orders a second: 1 to %d are allowed", o.Rate, mostRate)}
	}
	return o, nil
}

// failure is what went wrong in the background and ended the demo.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// errStopped is the end by the user's wish, before the verdict.
var errStopped = errors.New("the demo was stopped before its end; everything it had started is gone")

// Run plays the demo. It returns nil when everything that was committed had
// arrived once, in order, and nothing else; everything that it started is gone
// when it returns, also when ctx ended early.
func Run(ctx context.Context, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := newShow(o, func(err error) { fail(&failure{err}) })
	s.screen.say("pg_tide demo: starting PostgreSQL, %sfour services and their relays …", o.starting())
	err = s.run(ctx)
	var background *failure
	switch {
	case err == nil || errors.Is(err, errDifferent):
	case errors.As(context.Cause(ctx), &background):
		err = background.err // it explains what failed here
	case ctx.Err() != nil:
		err = errStopped
	}
	return errors.Join(err, s.close())
}

// run goes through the acts.
func (s *show) run(ctx context.Context) error {
	if err := s.setUp(ctx); err != nil {
		return err
	}
	if err := s.play(ctx); err != nil {
		return err
	}
	problem := s.judge(ctx)
	if !s.options.Keep || ctx.Err() != nil {
		return problem
	}
	return errors.Join(problem, s.stay(ctx))
}
