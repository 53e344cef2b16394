package transform

import (
	"fmt"

	"github.com/pg-tide/pg-tide/internal/message"
)

// Rule sends the events for which When is true to the destination To; an
// empty To drops them.
type Rule struct{ When, To string }

// Router fills in the destination of each event: that of the first rule that
// matches, else the fallback.
type Router struct {
	rules    []route
	fallback *Template
}

type route struct {
	text string
	when expression
	to   *Template // nil drops the event
}

// CompileRouter compiles rules and templates; without rules the router is
// just the fallback.
func CompileRouter(language string, rules []Rule, fallback string, safe Sanitizer) (*Router, error) {
	r := &Router{}
	var err error
	if r.fallback, err = CompileTemplate(fallback, safe); err != nil {
		return nil, err
	}
	for i, rule := range rules {
		one := route{text: rule.When}
		if one.when, err = compile(language, rule.When); err != nil {
			return nil, fmt.Errorf("routing.rules[%d].when %q: %w", i, rule.When, err)
		}
		if rule.To != "" {
			if one.to, err = CompileTemplate(rule.To, safe); err != nil {
				return nil, fmt.Errorf("routing.rules[%d].subject: %w", i, err)
			}
		}
		r.rules = append(r.rules, one)
	}
	return r, nil
}

// Apply sets m.Destination. It fails with the verdict reject.
func (r *Router) Apply(m *message.Message) (keep bool, err error) {
	seen := &event{message: m}
	target := r.fallback
	for i := range r.rules {
		matches, err := test(r.rules[i].when, seen)
		if err != nil {
			return false, reject("routing rule", r.rules[i].text, m, err)
		}
		if matches {
			target = r.rules[i].to
			break
		}
	}
	if target == nil {
		return false, nil
	}
	m.Destination, err = target.expand(seen)
	return err == nil, err
}
