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

type celProgram struct {
	program  cel.Program
	failures celFailures
	wanted   needs
}

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
	c := celProgram{program: program, failures: celFailuresOf(ast)}
	for _, reference := range ast.NativeRep().ReferenceMap() {
		c.wanted.payload = c.wanted.payload || reference.Name == namePayload
		c.wanted.headers = c.wanted.headers || reference.Name == nameHeaders
	}
	return c, nil
}

func (c celProgram) needs() needs { return c.wanted }

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
		return nil, c.failures.tell(err)
	}
	return (&celReader{left: longestResult}).read(value)
}

// celNumber gives CEL, which knows no json.Number, what comes nearest to one
// that had to stay text.
func celNumber(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	return nearest(n)
}

// celReader turns a value into what can be written as JSON, while that fits
// into left bytes.
type celReader struct{ left int }

// read keeps integers as integers: JSON's own conversion would make text of
// the great ones.
func (r *celReader) read(value ref.Val) (any, error) {
	if s, ok := value.(types.String); ok {
		r.left -= len(s)
	}
	if r.left -= 4; r.left < 0 {
		return nil, errTooLong
	}
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
		return r.object(v)
	case traits.Lister:
		return r.list(v)
	}
	// Times, durations and bytes have a form in JSON; types and functions have none.
	native, err := value.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	converted, ok := native.(*structpb.Value)
	if err != nil || !ok {
		return nil, fmt.Errorf("its value of type %s cannot be written as JSON", value.Type().TypeName())
	}
	return converted.AsInterface(), nil
}

func (r *celReader) object(m traits.Mapper) (any, error) {
	object := map[string]any{}
	for keys := m.Iterator(); keys.HasNext() == types.True; {
		key := keys.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, fmt.Errorf("its value has a key of type %s, and JSON has text for keys only", key.Type().TypeName())
		}
		r.left -= len(name)
		value, err := r.read(m.Get(key))
		if err != nil {
			return nil, err
		}
		object[string(name)] = value
	}
	return object, nil
}

func (r *celReader) list(l traits.Lister) (any, error) {
	list := []any{}
	for items := l.Iterator(); items.HasNext() == types.True; {
		value, err := r.read(items.Next())
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, nil
}
