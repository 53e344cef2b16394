package transform

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

var (
	errTooCostly = errors.New("it takes too long on this event")
	errCEL       = errors.New("it cannot be evaluated on this event")
)

// celFailures tells where in an expression an evaluation can fail, by the id
// that CEL gives to each part. The texts of CEL's own errors hold values of
// the event, keys and times and patterns, and errors end up in logs.
type celFailures map[int64]error

// celFailuresOf writes down, once, what each part of an expression would say.
func celFailuresOf(compiled *cel.Ast) celFailures {
	failures := celFailures{}
	tree := compiled.NativeRep()
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(part ast.Expr) {
		at := tree.SourceInfo().GetStartLocation(part.ID())
		position := fmt.Sprintf("at %d:%d", at.Line(), at.Column()+1)
		switch part.Kind() {
		case ast.SelectKind:
			failures[part.ID()] = fmt.Errorf("%s: there is no %s (test for it with has())", position, celPath(part))
		case ast.CallKind:
			failures[part.ID()] = fmt.Errorf("%s: %s", position, celCall(part.AsCall().FunctionName()))
		default:
			failures[part.ID()] = fmt.Errorf("%s: %w", position, errCEL)
		}
	}))
	return failures
}

// celPath writes "payload.a.b" as it stands in the expression.
func celPath(part ast.Expr) string {
	switch part.Kind() {
	case ast.IdentKind:
		return part.AsIdent()
	case ast.SelectKind:
		return celPath(part.AsSelect().Operand()) + "." + part.AsSelect().FieldName()
	}
	return "…"
}

func celCall(function string) string {
	switch function {
	case operators.Index:
		return "there is nothing in [ ] of that key or index"
	case operators.Conditional:
		return "the condition before ? is neither true nor false"
	}
	if symbol, isOperator := operators.FindReverse(function); isOperator && symbol != "" {
		return fmt.Sprintf("operator %s cannot take these values (numbers of JSON are doubles: write 1.0 for 1)", symbol)
	}
	return fmt.Sprintf("%s() cannot take this value", function)
}

// tell replaces an error of CEL.
func (f celFailures) tell(err error) error {
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) {
		return errTooCostly
	}
	var failed *types.Err
	if errors.As(err, &failed) {
		if told, known := f[failed.NodeID()]; known {
			return told
		}
	}
	return errCEL
}
