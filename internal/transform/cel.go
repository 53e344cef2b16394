package transform

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/types/known/structpb"
)

// celCostLimit bounds what one evaluation may cost, so that an expression
// cannot hold up the pipeline; a field access costs about one.
const celCostLimit = 1_000_000

type celProgram struct{ program cel.Program }

func compileCEL(text string) (expression, error) {
	env, err := cel.NewEnv(
		cel.Variable("payload", cel.DynType),
		cel.Variable("headers", cel.DynType),
		cel.Variable("stream", cel.StringType),
		cel.Variable("key", cel.StringType),
		cel.Variable("op", cel.StringType),
		cel.Variable("event_type", cel.StringType),
		cel.CrossTypeNumericComparisons(true), // JSON has one kind of number
	)
	if err != nil {
		return nil, fmt.Errorf("set up CEL: %w", err)
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("it is not CEL: %s", oneLine(err.Error()))
	}
	program, err := env.Program(ast, cel.CostLimit(celCostLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("it cannot be evaluated: %w", err)
	}
	return celProgram{program: program}, nil
}

// oneLine drops the drawing below CEL's messages.
func oneLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return strings.TrimPrefix(first, "ERROR: <input>:")
}

func (c celProgram) evaluate(variables map[string]any) (any, error) {
	seen := make(map[string]any, len(variables))
	for name, value := range variables {
		seen[name] = celValue(value)
	}
	value, _, err := c.program.Eval(seen)
	if err != nil {
		return nil, fmt.Errorf("%w (test for a field with has())", err)
	}
	return fromCEL(value)
}

// celValue gives CEL the numbers that it would not understand as such.
func celValue(value any) any {
	switch v := value.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return string(v)
		}
		return f
	case map[string]any:
		for name, inner := range v {
			if changed := celValue(inner); !reflect.DeepEqual(changed, inner) {
				v[name] = changed
			}
		}
	case []any:
		for i, inner := range v {
			v[i] = celValue(inner)
		}
	}
	return value
}

func fromCEL(value ref.Val) (any, error) {
	switch v := value.(type) {
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Null:
		return nil, nil
	}
	native, err := value.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return nil, fmt.Errorf("its value cannot be written as JSON: %w", err)
	}
	converted, ok := native.(*structpb.Value)
	if !ok {
		return nil, fmt.Errorf("its value of type %s cannot be written as JSON", value.Type().TypeName())
	}
	return converted.AsInterface(), nil
}
