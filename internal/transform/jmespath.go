package transform

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jmespath-community/go-jmespath"
)

var (
	literals    = regexp.MustCompile("'(?:[^'\\\\]|\\\\.)*'|`(?:[^`\\\\]|\\\\.)*`|\"(?:[^\"\\\\]|\\\\.)*\"")
	comparisons = regexp.MustCompile(`[=!<>]=`)
)

type jmesPath struct{ compiled jmespath.JMESPath }

func compileJMESPath(text string) (expression, error) {
	if loneEquals(text) {
		return nil, errors.New("it is not JMESPath: it compares with one = (write ==)")
	}
	compiled, err := jmespath.Compile(text)
	if err != nil {
		var syntax jmespath.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("it is not JMESPath, at character %d: %w (strings stand in single quotes, numbers in backquotes)", syntax.Offset+1, err)
		}
		return nil, fmt.Errorf("it is not JMESPath: %w", err)
	}
	return jmesPath{compiled: compiled}, nil
}

// loneEquals tells whether a comparison was written with one = instead of two.
// The parser takes it for the assignment of a let expression, reads no further
// and says nothing.
func loneEquals(text string) bool {
	if strings.Contains(text, "let ") {
		return false
	}
	bare := literals.ReplaceAllString(text, "")
	return strings.Contains(comparisons.ReplaceAllString(bare, ""), "=")
}

func (j jmesPath) evaluate(variables map[string]any) (any, error) {
	return j.compiled.Search(variables)
}
