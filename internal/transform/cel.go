package transform

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
)

// celCostLimit bounds what one evaluation may cost, so that an expression
// cannot hold up the pipeline; a field access costs about one.
const celCostLimit = 1_000_000

type celProgram struct{ program cel.Program }

func compileCEL(text string) (expression, error) {
	env, err := cel.NewEnv(
		cel.Variable(namePayload, cel.DynType),
		cel.Variable(nameHeaders, cel.DynType),
		cel.Variable(nameStream, cel.StringType),
		cel.Variable(nameKey, cel.StringType),
		cel.Variable(nameOp, cel.StringType),
		cel.Variable(nameEventType, cel.StringType),
		cel.CrossTypeNumericComparisons(true), // JSON has one kind of number
	)
	if err != nil {
		return nil, fmt.Errorf("set up CEL: %w", err)
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("it is not CEL: at %s (an expression sees %s)", oneLine(err.Error()), enumerated())
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
	for name, value := range variables {
		variables[name] = copyOf(value, celNumber)
	}
	value, _, err := c.program.Eval(variables)
	if err != nil {
		return nil, fmt.Errorf("%w (numbers of JSON are doubles: write 1.0 for 1; test for a field with has())", err)
	}
	return fromCEL(value)
}

// celNumber gives CEL, which knows no json.Number, what comes nearest to one
// that had to stay text.
func celNumber(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	return nearest(n)
}

// fromCEL turns a value into what can be written as JSON. Integers stay
// integers: JSON's own conversion would make text of the great ones.
func fromCEL(value ref.Val) (any, error) {
	switch v := value.(type) {
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		return uint64(v), nil
	case types.Double:
		return float64(v), nil
	case types.String:
		return string(v), nil
	case types.Null:
		return nil, nil
	case traits.Mapper:
		return objectFromCEL(v)
	case traits.Lister:
		return listFromCEL(v)
	}
	// Times, durations and bytes have a form in JSON; types and functions have none.
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

func objectFromCEL(m traits.Mapper) (any, error) {
	object := map[string]any{}
	for keys := m.Iterator(); keys.HasNext() == types.True; {
		key := keys.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, fmt.Errorf("its value has the key %v, and JSON has text for keys only", key.Value())
		}
		value, err := fromCEL(m.Get(key))
		if err != nil {
			return nil, err
		}
		object[string(name)] = value
	}
	return object, nil
}

func listFromCEL(l traits.Lister) (any, error) {
	list := []any{}
	for items := l.Iterator(); items.HasNext() == types.True; {
		value, err := fromCEL(items.Next())
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, nil
}
