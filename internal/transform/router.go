package transform

import (
	"errors"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/message"
)

// Rule sends the events for which When is true to the destination To, or
// nowhere if Drop says so.
type Rule struct {
	When, To string
	Drop     bool
}

// Unmatched says where events go that no rule matches.
type Unmatched struct {
	// To is the template of their destination.
	To string
	// Drop sends them nowhere; To then counts for nothing.
	Drop bool
}

// NoRule is the number of the rule of an event that none matches.
const NoRule = -1

// Router fills in the destination of each event: that of the first rule that
// matches, else the fallback.
type Router struct {
	rules    []route
	fallback *Template // nil drops the event
}

type route struct {
	text string
	when expression
	to   *Template // nil drops the event
}

// CompileRouter compiles rules and templates; without rules the router is
// just the fallback. An error names the rule and the place in it.
func CompileRouter(language string, rules []Rule, unmatched Unmatched, safe Sanitizer) (*Router, error) {
	r := &Router{}
	for i, rule := range rules {
		one := route{text: rule.When}
		var err error
		if one.when, err = compile(language, rule.When); err != nil {
			return nil, fmt.Errorf("routing.rules[%d].when %q: %w", i, rule.When, err)
		}
		switch {
		case rule.Drop && rule.To != "":
			return nil, fmt.Errorf("routing.rules[%d] has the subject %q and drop: true; keep one of them", i, rule.To)
		case !rule.Drop && rule.To == "":
			return nil, fmt.Errorf("routing.rules[%d] says nowhere to go: give it a subject, or drop: true to send what it matches nowhere", i)
		case !rule.Drop:
			if one.to, err = CompileTemplate(rule.To, safe); err != nil {
				return nil, fmt.Errorf("routing.rules[%d].subject: %w", i, err)
			}
		}
		r.rules = append(r.rules, one)
	}
	if unmatched.Drop {
		return r, nil
	}
	var err error
	r.fallback, err = CompileTemplate(unmatched.To, safe)
	return r, err
}

// Templates returns the templates of all destinations that it may choose.
func (r *Router) Templates() []*Template {
	var all []*Template
	if r.fallback != nil {
		all = append(all, r.fallback)
	}
	for i := range r.rules {
		if to := r.rules[i].to; to != nil {
			all = append(all, to)
		}
	}
	return all
}

// Apply sets m.Destination. It fails with the verdict reject.
func (r *Router) Apply(m *message.Message) (keep bool, err error) {
	_, keep, err = r.Route(m)
	return keep, err
}

// Route does what Apply does and tells the number of the rule that decided, or
// failed; NoRule for the fallback.
func (r *Router) Route(m *message.Message) (rule int, keep bool, err error) {
	seen := &event{message: m}
	rule, target := NoRule, r.fallback
	for i := range r.rules {
		matches, err := test(r.rules[i].when, seen)
		if err != nil {
			return i, false, reject(fmt.Sprintf("routing.rules[%d].when", i), r.rules[i].text, m, err)
		}
		if matches {
			rule, target = i, r.rules[i].to
			break
		}
	}
	if target == nil {
		return rule, false, nil
	}
	m.Destination, err = target.expand(seen)
	return rule, err == nil, err
}

// ErrNowhere says that a router sends every event nowhere.
var ErrNowhere = errors.New("routing sends every event nowhere: give a rule a subject, or a default (to stop a pipeline, pause it)")
