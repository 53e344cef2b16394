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
	wanted needs
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
	return jmesPath{tree: tree, caller: calls, wanted: neededBy(tree)}, nil
}

func (j jmesPath) needs() needs { return j.wanted }

// neededBy errs on the safe side: what stands for the whole may be all of it.
func neededBy(node parsing.ASTNode) needs {
	var wanted needs
	switch node.NodeType {
	case parsing.ASTCurrentNode, parsing.ASTRootNode, parsing.ASTValueProjection:
		return needs{payload: true, headers: true}
	case parsing.ASTField:
		wanted = needs{payload: node.Value == namePayload, headers: node.Value == nameHeaders}
	}
	for _, child := range node.Children {
		inner := neededBy(child)
		wanted.payload = wanted.payload || inner.payload
		wanted.headers = wanted.headers || inner.headers
	}
	return wanted
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
