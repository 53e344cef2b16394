package transform

import (
	"errors"
	"fmt"

	"github.com/jmespath-community/go-jmespath"
)

type jmesPath struct{ compiled jmespath.JMESPath }

func compileJMESPath(text string) (expression, error) {
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

func (j jmesPath) evaluate(variables map[string]any) (any, error) {
	return j.compiled.Search(variables)
}
