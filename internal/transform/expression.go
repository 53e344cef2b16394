package transform

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jmespath-community/go-jmespath/pkg/functions"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// expression is a compiled expression of either language.
type expression interface {
	// needs says what has to be parsed for it.
	needs() needs
	// evaluate returns a value that can be written as JSON.
	evaluate(variables map[string]any) (any, error)
}

// compile compiles text in the named language. The error names position and hint.
func compile(language, text string) (expression, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("the expression is empty")
	}
	switch language {
	case "", "jmespath":
		return compileJMESPath(text)
	case "cel":
		return compileCEL(text)
	}
	return nil, fmt.Errorf("language %q is not known: it must be jmespath or cel", language)
}

// Options are the expressions of a pipeline's transform.
type Options struct {
	// Language is jmespath (the default) or cel.
	Language string
	// Filter keeps the events for which it is true; empty keeps all.
	Filter string
	// Payload makes the new payload; empty leaves it.
	Payload string
}

// Expressions are a compiled filter and payload expression.
type Expressions struct {
	filterText, payloadText string
	filter, payload         expression
}

// Compile compiles the expressions; nil when there is none.
func Compile(o Options) (*Expressions, error) {
	if o.Filter == "" && o.Payload == "" {
		return nil, nil
	}
	e := &Expressions{filterText: o.Filter, payloadText: o.Payload}
	var err error
	if o.Filter != "" {
		if e.filter, err = compile(o.Language, o.Filter); err != nil {
			return nil, fmt.Errorf("transform.filter %q: %w", o.Filter, err)
		}
	}
	if o.Payload != "" {
		if e.payload, err = compile(o.Language, o.Payload); err != nil {
			return nil, fmt.Errorf("transform.payload %q: %w", o.Payload, err)
		}
	}
	return e, nil
}

// Apply filters m and rewrites its payload. It fails with the verdict reject.
// Without expressions it keeps m as it is.
func (e *Expressions) Apply(m *message.Message) (keep bool, err error) {
	if e == nil {
		return true, nil
	}
	seen := &event{message: m}
	if e.filter != nil {
		if keep, err = test(e.filter, seen); err != nil || !keep {
			return false, reject("transform.filter", e.filterText, m, err)
		}
	}
	if e.payload == nil {
		return true, nil
	}
	text, err := rewrite(e.payload, seen)
	if err != nil {
		return false, reject("transform.payload", e.payloadText, m, err)
	}
	m.Payload = text
	return true, nil
}

func rewrite(payload expression, seen *event) ([]byte, error) {
	if err := seen.prepareRewriting(payload.needs()); err != nil {
		return nil, err
	}
	value, err := evaluate(payload, seen)
	if err != nil {
		return nil, err
	}
	if measure(value, longestResult) < 0 {
		return nil, errTooLong
	}
	return writeJSON(seen.digits.restore(value))
}

func evaluate(payload expression, seen *event) (any, error) {
	if len(seen.digits.clashes) > 0 {
		return evaluateExactly(payload, seen)
	}
	return payload.evaluate(seen.variables(payload.needs(), seen.digits.forRewriting))
}

// test evaluates a condition. Only true keeps an event; false and null drop
// it, as a missing field does in JMESPath; anything else is a mistake.
func test(condition expression, seen *event) (bool, error) {
	variables, err := seen.forCondition(condition.needs())
	if err != nil {
		return false, err
	}
	value, err := condition.evaluate(variables)
	if err != nil {
		return false, err
	}
	switch v := value.(type) {
	case bool:
		return v, nil
	case nil:
		return false, nil
	}
	return false, fmt.Errorf("it gave %s, and a condition must give true or false", kindOf(value))
}

// kindOf names a value without showing it: errors end up in logs.
func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "text"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case functions.ExpRef:
		return "an expression"
	}
	return "a number"
}

func reject(what, text string, m *message.Message, err error) error {
	if err == nil {
		return nil
	}
	return delivery.Reject(fmt.Errorf("%s %q fails on event %s: %w", what, text, m.EventID, err))
}
