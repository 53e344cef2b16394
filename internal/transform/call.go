package transform

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jmespath-community/go-jmespath/pkg/functions"
	"github.com/jmespath-community/go-jmespath/pkg/interpreter"
)

// longestResult bounds what an expression may make of one event, in bytes:
// no broker takes more. Memory that cannot be had ends the process, and with
// it the pipelines that did nothing wrong.
const longestResult = 64 << 20

var errTooLong = fmt.Errorf("its result is longer than %d MiB", longestResult>>20)

// caller calls the functions of JMESPath. Beforehand it refuses results that
// would not fit; afterwards it tells of values by their kind only, where the
// library shows them.
type caller struct {
	known map[string]functions.FunctionEntry
	calls interpreter.FunctionCaller
}

func newCaller() *caller {
	c := &caller{known: map[string]functions.FunctionEntry{}}
	var entries []functions.FunctionEntry
	for _, f := range functions.GetDefaultFunctions() {
		c.known[f.Name] = f
		handler := f.Handler
		f.Handler = func(arguments []any) (any, error) {
			value, err := handler(arguments)
			if err != nil {
				return nil, &functionError{err}
			}
			return value, nil
		}
		entries = append(entries, f)
	}
	c.calls = interpreter.NewFunctionCaller(entries...)
	return c
}

// functionError is an error of a function itself. Those name no value; those
// of the check of its arguments, made before it is called, do.
type functionError struct{ err error }

func (e *functionError) Error() string { return e.err.Error() }

func (e *functionError) Unwrap() error { return e.err }

// CallFunction is what the interpreter of the library calls.
func (c *caller) CallFunction(name string, arguments []any) (any, error) {
	if grown(name, arguments) > longestResult {
		return nil, &functionError{fmt.Errorf("%s(): %w", name, errTooLong)}
	}
	value, err := c.calls.CallFunction(name, arguments)
	var own *functionError
	if err == nil || errors.As(err, &own) {
		return value, err
	}
	var takes, got []string
	for _, argument := range c.known[name].Arguments {
		var types []string
		for _, t := range argument.Types {
			types = append(types, string(t))
		}
		takes = append(takes, strings.Join(types, " or "))
	}
	for _, argument := range arguments {
		got = append(got, kindOf(argument))
	}
	return nil, &functionError{fmt.Errorf("%s() takes (%s) and got (%s)", name, strings.Join(takes, ", "), strings.Join(got, ", "))}
}

// grown is how long the result of a function becomes, of those that can make
// much of little. Arguments of the wrong type are left to the library.
func grown(name string, arguments []any) float64 {
	text := func(i int) string {
		if i < len(arguments) {
			s, _ := arguments[i].(string)
			return s
		}
		return ""
	}
	switch name {
	case "pad_left", "pad_right":
		if len(arguments) > 1 {
			width, _ := arguments[1].(float64)
			return width
		}
	case "replace":
		return float64(len(text(0))) + float64(strings.Count(text(0), text(1)))*float64(len(text(2)))
	case "join":
		if len(arguments) > 1 {
			list, _ := arguments[1].([]any)
			return float64(longestResult-measure(list, longestResult)) + float64(len(list))*float64(len(text(0)))
		}
	case "to_string":
		if len(arguments) > 0 && measure(arguments[0], longestResult) < 0 {
			return longestResult + 1
		}
	}
	return 0
}

// measure takes the length of a value as JSON, about, from left, and stops
// when that is used up: parts that occur many times in a value are one in
// memory, and only writing multiplies them.
func measure(value any, left int) int {
	switch v := value.(type) {
	case string:
		return left - len(v) - 2
	case json.Number:
		return left - len(v)
	case map[string]any:
		for name, inner := range v {
			if left -= len(name) + 4; left < 0 {
				return left
			}
			left = measure(inner, left)
		}
		return left - 2
	case []any:
		for _, inner := range v {
			if left = measure(inner, left-1); left < 0 {
				return left
			}
		}
		return left - 2
	}
	return left - 4
}
