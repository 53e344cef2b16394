package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Path is the key, with the keys around it: "transform.filter", "routing.rules[2].when".
	Path string
	// Value is what was there, as JSON; "(secret)" for what must not be shown, empty for a missing key.
	Value string
	// Rule says what is asked for.
	Rule string
	// Hint says what to do; it may be empty.
	Hint string
}

// String is the problem as one sentence.
func (p Problem) String() string {
	text := fmt.Sprintf("key %q %s", p.Path, p.Rule)
	if p.Value != "" {
		text = fmt.Sprintf("key %q is %s but %s", p.Path, p.Value, p.Rule)
	}
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// Error is everything that is wrong with a configuration, found at once.
type Error struct{ Problems []Problem }

// Error lists the problems.
func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	return strings.Join(texts, "; ")
}

// Notice tells about a key that was accepted under another name.
type Notice struct{ Alias, Name string }

// String is the notice as one sentence.
func (n Notice) String() string {
	return fmt.Sprintf("key %q is accepted as another name for %q", n.Alias, n.Name)
}
