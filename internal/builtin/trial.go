package builtin

import (
	"fmt"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/transform"
)

// Result is what a pipeline would do with an event.
type Result string

// The results.
const (
	// ResultSent: it would go to its destination.
	ResultSent Result = "sent"
	// ResultFiltered: transform.filter leaves it out.
	ResultFiltered Result = "filtered"
	// ResultDropped: routing sends it nowhere.
	ResultDropped Result = "dropped"
	// ResultFails: it would be refused, and on_error decides.
	ResultFails Result = "fails"
)

// Outcome is what became of one event in a trial.
type Outcome struct {
	Result Result
	// Rule is the number of the routing rule that decided; transform.NoRule for
	// the default, and for an event that did not get so far.
	Rule int
	// Routed says that the event got as far as to the routing.
	Routed bool
	// Envelope is what would be sent.
	Envelope message.Envelope
	// Err is why it fails.
	Err error
}

// Trial is a forward pipeline without its ends: it shows what a configuration
// makes of events, and neither sends nor reads any.
type Trial struct{ way way }

// Trial compiles a configuration as Build does, and constructs no sink. Its
// errors have the verdict misconfigured.
func (b *Builder) Trial(spec pipeline.Spec) (*Trial, error) {
	way, err := b.trialWay(spec)
	if err != nil {
		return nil, delivery.Misconfigured(fmt.Errorf("configuration of pipeline %q: %w", spec.Name, err))
	}
	return &Trial{way: way}, nil
}

func (b *Builder) trialWay(spec pipeline.Spec) (way, error) {
	technology, err := b.technology(spec.Config, true)
	if err != nil {
		return way{}, err
	}
	values, err := b.decode(spec, technology, true)
	if err != nil {
		return way{}, err
	}
	return compileWay(values, technology, true)
}

// Try does with an event what the pipeline would do.
func (t *Trial) Try(m message.Message) Outcome {
	failed := Outcome{Result: ResultFails, Rule: transform.NoRule}
	keep, err := t.way.expressions.Apply(&m)
	switch {
	case err != nil:
		failed.Err = err
		return failed
	case !keep:
		return Outcome{Result: ResultFiltered, Rule: transform.NoRule}
	}
	rule, keep, err := t.way.router.Route(&m)
	failed.Rule, failed.Routed = rule, true
	switch {
	case err != nil:
		failed.Err = err
		return failed
	case !keep:
		return Outcome{Result: ResultDropped, Rule: rule, Routed: true}
	}
	envelope, err := t.way.codec.Encode(&m)
	if err != nil {
		failed.Err = err
		return failed
	}
	return Outcome{Result: ResultSent, Rule: rule, Routed: true, Envelope: envelope}
}
