package transform

import (
	"encoding/json"
	"math"
	"math/big"
	"strconv"
)

// exactDigits is how many characters a number may have and be sure to survive
// a float64, whatever its digits.
const exactDigits = 15

// digits remembers how numbers were written that a float64 would change.
// Expression languages calculate with float64, so that is what they see; a
// number that comes out as it went in is then written to the last digit again.
type digits struct {
	written map[float64]json.Number
	// clashes are float64s which stand for two different numbers of one
	// document. Those cannot be told apart afterwards and stay text all along.
	clashes map[float64]bool
}

// remember walks a document and notes the numbers that a float64 would change.
func (d *digits) remember(value any) {
	d.walk(value, func(n json.Number) {
		f, err := n.Float64()
		if err != nil || isExact(n, f) {
			return
		}
		if before, known := d.written[f]; known && !sameNumber(before, n) {
			d.clash(f)
			return
		}
		if d.written == nil {
			d.written = map[float64]json.Number{}
		}
		d.written[f] = n
	})
	if len(d.written) == 0 {
		return
	}
	d.walk(value, func(n json.Number) {
		if f, err := n.Float64(); err == nil && d.written[f] != "" && !sameNumber(d.written[f], n) {
			d.clash(f)
		}
	})
}

func (d *digits) clash(f float64) {
	if d.clashes == nil {
		d.clashes = map[float64]bool{}
	}
	d.clashes[f] = true
}

func (d *digits) walk(value any, visit func(json.Number)) {
	switch v := value.(type) {
	case json.Number:
		visit(v)
	case map[string]any:
		for _, inner := range v {
			d.walk(inner, visit)
		}
	case []any:
		for _, inner := range v {
			d.walk(inner, visit)
		}
	}
}

// copyOf returns a copy of a document with its numbers as number has them.
// Every evaluation gets its own: sort_by of JMESPath sorts in place.
func copyOf(value any, number func(json.Number) any) any {
	switch v := value.(type) {
	case json.Number:
		return number(v)
	case map[string]any:
		object := make(map[string]any, len(v))
		for name, inner := range v {
			object[name] = copyOf(inner, number)
		}
		return object
	case []any:
		list := make([]any, len(v))
		for i, inner := range v {
			list[i] = copyOf(inner, number)
		}
		return list
	}
	return value
}

// nearest is the float64 next to a number, infinite for what is too great: it
// is for conditions, whose numbers are compared and never written.
func nearest(n json.Number) any {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil && !math.IsInf(f, 0) {
		return n
	}
	return f
}

// forRewriting is what a payload expression sees: float64, but for numbers
// that could not be written as they were afterwards.
func (d *digits) forRewriting(n json.Number) any {
	f, err := n.Float64()
	if err != nil || d.clashes[f] && !isExact(n, f) {
		return n
	}
	return f
}

// restore puts the remembered numbers into a result.
func (d *digits) restore(value any) any {
	if len(d.written) == 0 {
		return value
	}
	switch v := value.(type) {
	case float64:
		if n, known := d.written[v]; known && !d.clashes[v] {
			return n
		}
	case map[string]any:
		object := make(map[string]any, len(v))
		for name, inner := range v {
			object[name] = d.restore(inner)
		}
		return object
	case []any:
		list := make([]any, len(v))
		for i, inner := range v {
			list[i] = d.restore(inner)
		}
		return list
	}
	return value
}

// isExact tells whether f, written as JSON, is the number n.
func isExact(n json.Number, f float64) bool {
	return len(n) <= exactDigits || sameNumber(n, json.Number(strconv.FormatFloat(f, 'g', -1, 64)))
}

// greatestExponent bounds what is compared digit by digit: the digits of
// 1e999999999 would fill the memory.
const greatestExponent = 400

func sameNumber(a, b json.Number) bool {
	if a == b {
		return true
	}
	x, xOK := rational(a)
	y, yOK := rational(b)
	return xOK && yOK && x.Cmp(y) == 0
}

func rational(n json.Number) (*big.Rat, bool) {
	for i := range len(n) {
		if n[i] != 'e' && n[i] != 'E' {
			continue
		}
		if exponent, err := strconv.Atoi(string(n[i+1:])); err != nil || exponent > greatestExponent || exponent < -greatestExponent {
			return nil, false
		}
	}
	return new(big.Rat).SetString(string(n))
}
