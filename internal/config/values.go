package config

import (
	"fmt"
	"maps"
	"slices"
)

// Values is a decoded configuration: aliases folded, references resolved,
// defaults filled in. The getters return the zero value for a key that is
// neither given nor defaulted; the kinds were checked while decoding. Values
// may hold secrets and therefore print as the names of their keys only.
type Values struct {
	values map[string]any
	given  map[string]bool
}

// Has tells whether the user gave the key, under its name or an alias.
func (v Values) Has(name string) bool { return v.given[name] }

// String returns a string.
func (v Values) String(name string) string {
	s, _ := v.values[name].(string)
	return s
}

// Int returns an integer.
func (v Values) Int(name string) int64 {
	switch n := v.values[name].(type) {
	case int:
		return int64(n)
	case int64:
		return n
	}
	return 0
}

// Float returns a number.
func (v Values) Float(name string) float64 {
	switch n := v.values[name].(type) {
	case float64:
		return n
	case int64:
		return float64(n)
	case int:
		return float64(n)
	}
	return 0
}

// Bool returns a boolean.
func (v Values) Bool(name string) bool {
	b, _ := v.values[name].(bool)
	return b
}

// Object returns the values of a nested object; empty when it was not given.
func (v Values) Object(name string) Values {
	o, _ := v.values[name].(Values)
	return o
}

// List returns the values of each object of an array.
func (v Values) List(name string) []Values {
	l, _ := v.values[name].([]Values)
	return l
}

// Format prints the names of the keys and no value, whatever the verb.
func (v Values) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "values%q", slices.Sorted(maps.Keys(v.given))) // a formatter has nobody to tell
}
