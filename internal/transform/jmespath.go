package transform

import (
	"errors"
	"fmt"

	"github.com/jmespath-community/go-jmespath"
	"github.com/jmespath-community/go-jmespath/pkg/interpreter"
	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

// jmesPath uses the fork of the JMESPath community: the original has had no
// release for years and leaves mistakes of its own unmended.
type jmesPath struct {
	tree   parsing.ASTNode
	caller *caller
}

func compileJMESPath(text string) (expression, error) {
	tree, err := jmespath.NewParser().Parse(text)
	if err != nil {
		var syntax jmespath.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("it is not JMESPath, at character %d: %w (strings stand in single quotes, numbers in backquotes)", syntax.Offset+1, err)
		}
		return nil, fmt.Errorf("it is not JMESPath: %w", err)
	}
	calls := newCaller()
	checks := &checker{functions: calls.known, bound: map[string]bool{}}
	if err := checks.check(tree, top); err != nil {
		return nil, err
	}
	return jmesPath{tree: tree, caller: calls}, nil
}

func (j jmesPath) evaluate(variables map[string]any) (value any, err error) {
	// The library indexes and asserts as it goes; what it did not foresee is
	// this event's failure and not the relay's.
	defer func() {
		if fault := recover(); fault != nil {
			value, err = nil, fmt.Errorf("the expression cannot cope with it: %v", fault)
		}
	}()
	return interpreter.NewInterpreter(variables, j.caller, nil).Execute(j.tree, variables)
}
