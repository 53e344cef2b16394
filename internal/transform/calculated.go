package transform

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
)

var errTooClose = errors.New("it calculates with numbers that double precision cannot tell apart, and passes one on")

// evaluateExactly makes a payload of an event some of whose numbers share a
// float64. Those must stay text to keep their digits, and calculating with
// text gives null or an error without a word. So the expression is evaluated
// twice: where both agree, a number was passed on and has its digits; where
// they do not, something was calculated and counts as it does in doubles.
func evaluateExactly(payload expression, seen *event) (any, error) {
	calculated, err := payload.evaluate(seen.variables(payload.needs(), double))
	if err != nil {
		return nil, err
	}
	if measure(calculated, longestResult) < 0 {
		return nil, errTooLong
	}
	passed, err := payload.evaluate(seen.variables(payload.needs(), seen.digits.forRewriting))
	if err != nil { // it does not take text for a number
		return calculated, seen.digits.tellApart(calculated)
	}
	return seen.digits.merge(calculated, passed)
}

// double is the float64 next to a number; what is too great for one stays text.
func double(n json.Number) any {
	f, err := n.Float64()
	if err != nil {
		return n
	}
	return f
}

// merge takes from passed the numbers that were only passed on, and all else
// from calculated.
func (d *digits) merge(calculated, passed any) (any, error) {
	switch c := calculated.(type) {
	case float64:
		if isWritten(passed, c) {
			return passed, nil
		}
	case map[string]any:
		if p, ok := passed.(map[string]any); ok && slices.Equal(slices.Sorted(maps.Keys(c)), slices.Sorted(maps.Keys(p))) {
			return d.mergeObjects(c, p)
		}
	case []any:
		if p, ok := passed.([]any); ok && len(c) == len(p) {
			return d.mergeLists(c, p)
		}
	default:
		return calculated, nil
	}
	return calculated, d.tellApart(calculated)
}

func (d *digits) mergeObjects(calculated, passed map[string]any) (any, error) {
	object := make(map[string]any, len(calculated))
	for name := range calculated {
		value, err := d.merge(calculated[name], passed[name])
		if err != nil {
			return nil, err
		}
		object[name] = value
	}
	return object, nil
}

func (d *digits) mergeLists(calculated, passed []any) (any, error) {
	list := make([]any, len(calculated))
	for i := range calculated {
		value, err := d.merge(calculated[i], passed[i])
		if err != nil {
			return nil, err
		}
		list[i] = value
	}
	return list, nil
}

// isWritten tells whether value is the number that f stands for.
func isWritten(value any, f float64) bool {
	switch v := value.(type) {
	case float64:
		return v == f
	case int64: // of CEL
		return float64(v) == f
	case json.Number:
		g, err := v.Float64()
		return err == nil && f == g
	}
	return false
}

// tellApart fails when a calculated value holds a float64 that stands for two
// numbers of the event: one of them may have been passed on.
func (d *digits) tellApart(value any) error {
	switch v := value.(type) {
	case float64:
		if d.clashes[v] {
			return errTooClose
		}
	case map[string]any:
		for _, inner := range v {
			if err := d.tellApart(inner); err != nil {
				return err
			}
		}
	case []any:
		for _, inner := range v {
			if err := d.tellApart(inner); err != nil {
				return err
			}
		}
	}
	return nil
}
