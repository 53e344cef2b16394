package transform

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// TestNumbersPassToTheLastDigit sends documents through the expression that
// changes nothing, in both languages, with numbers that no float64 holds, and
// with neighbours that one float64 stands for.
func TestNumbersPassToTheLastDigit(t *testing.T) {
	t.Parallel()
	number := rapid.OneOf(
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,6})(\.[0-9]{1,4})?`),
		rapid.StringMatching(`-?[1-9][0-9]{15,30}`),
		rapid.StringMatching(`0\.[0-9]{16,30}`),
		rapid.StringMatching(`[1-9]\.[0-9]{0,3}[1-9][eE][+-]?[1-9][0-9]?`),
		rapid.SampledFrom([]string{"9007199254740991", "9007199254740992", "9007199254740993", "149.99", "-0", "1e3", "0.1", "0.1000000000000000055511151231257827"}),
	)
	for language, c := range map[string]struct{ whole, inside string }{
		"jmespath": {"payload", "{n: payload.list[0], rest: payload.list[1:]}"},
		"cel":      {"payload", "{'n': payload.list[0], 'rest': payload.list}"},
	} {
		whole, inside := compiledPayload(t, language, c.whole), compiledPayload(t, language, c.inside)
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				list := rapid.SliceOfN(number, 1, 5).Draw(t, "numbers")
				if language == "cel" && clash(list) {
					// CEL cannot carry text as a number; see below.
					return
				}
				text := `{"list": [` + strings.Join(list, ", ") + `]}`
				m := message.Message{EventID: "e", Payload: []byte(text)}
				if keep, err := whole.Apply(&m); !keep || err != nil || !sameDocument(t, []byte(text), m.Payload) {
					t.Fatalf("%s became %s, %t, %v", text, m.Payload, keep, err)
				}
				if keep, err := inside.Apply(&m); !keep || err != nil || !strings.Contains(string(m.Payload), `"n":`) {
					t.Fatalf("%s became %s, %t, %v", text, m.Payload, keep, err)
				}
				var picked struct{ N json.Number }
				if err := json.Unmarshal(m.Payload, &picked); err != nil || !sameNumber(picked.N, json.Number(list[0])) {
					t.Fatalf("%s became %s, %v", list[0], picked.N, err)
				}
			})
		})
	}
}

// clash tells whether two different numbers have one float64.
func clash(list []string) bool {
	d := digits{}
	tree := make([]any, len(list))
	for i := range list {
		tree[i] = json.Number(list[i])
	}
	d.remember(tree)
	return len(d.clashes) > 0
}

func compiledPayload(t *testing.T, language, text string) *Expressions {
	t.Helper()
	e, err := Compile(Options{Language: language, Payload: text})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func sameDocument(t *rapid.T, a, b []byte) bool {
	x, err := parseJSON(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := parseJSON(b)
	if err != nil {
		t.Fatal(err)
	}
	return same(x, y)
}

func same(x, y any) bool {
	switch a := x.(type) {
	case json.Number:
		b, ok := y.(json.Number)
		return ok && sameNumber(a, b)
	case []any:
		b, ok := y.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := y.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name := range a {
			if !same(a[name], b[name]) {
				return false
			}
		}
		return true
	}
	return x == y
}

func TestNeighboursThatShareADoubleKeepTheirDigits(t *testing.T) {
	t.Parallel()
	const text = `{"a":9007199254740993,"b":9007199254740992}`
	for _, language := range []string{"jmespath", "cel"} {
		m := message.Message{Payload: []byte(text)}
		if _, err := compiledPayload(t, language, "payload").Apply(&m); err != nil || string(m.Payload) != text {
			t.Errorf("%s: became %s, %v", language, m.Payload, err)
		}
	}
}

// TestCalculatingWithSuchNeighboursIsNeverNull: identifiers that follow each
// other are such numbers.
func TestCalculatingWithSuchNeighboursIsNeverNull(t *testing.T) {
	t.Parallel()
	const text = `{"a":9007199254740993,"b":9007199254740992,"n":2,"list":[9007199254740993,1]}`
	for _, c := range []struct{ language, expression, want string }{
		{"jmespath", "{id: payload.a, before: payload.b, n: payload.n}", `{"before":9007199254740992,"id":9007199254740993,"n":2}`},
		{"jmespath", "{id: payload.a, later: payload.a > `5`, same: payload.a == payload.b, n: payload.n * `2`}", `{"id":9007199254740993,"later":true,"n":4,"same":true}`},
		{"jmespath", "payload.a / `9007199254740992`", "1"},
		{"jmespath", "abs(payload.a) > `1`", "true"},
		{"jmespath", "{id: payload.a, list: payload.list[?@ > `5`]}", ""}, // which of the two is in the list?
		{"jmespath", "abs(payload.a)", ""},
		{"jmespath", "payload.a + `0`", ""},
		{"cel", "{'id': payload.a, 'later': payload.a > 5, 'half': payload.n / 2.0}", `{"half":1,"id":9007199254740993,"later":true}`},
		{"cel", "payload.a / 9007199254740992.0", "1"},
		{"cel", "[payload.a, payload.b, payload.list[0]]", "[9007199254740993,9007199254740992,9007199254740993]"},
		{"cel", "payload.a * 1.0", ""},
	} {
		m := message.Message{EventID: "e1", Payload: []byte(text)}
		_, err := compiledPayload(t, c.language, c.expression).Apply(&m)
		switch {
		case c.want == "":
			if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject || !strings.Contains(err.Error(), "cannot tell apart") {
				t.Errorf("%s gave %s, %v; want a rejection", c.expression, m.Payload, err)
			}
		case err != nil || string(m.Payload) != c.want:
			t.Errorf("%s gave %s, %v; want %s", c.expression, m.Payload, err, c.want)
		}
	}
}

func TestHugeExponentsCostNothing(t *testing.T) {
	t.Parallel()
	m := message.Message{Payload: []byte(`{"a": 1e999999999, "b": 1.0000000000000000001e-999999999, "c": 12345678901234567890}`)}
	if _, err := compiledPayload(t, "jmespath", "payload.{a: a, c: c}").Apply(&m); err != nil || string(m.Payload) != `{"a":1e999999999,"c":12345678901234567890}` {
		t.Errorf("became %s, %v", m.Payload, err)
	}
}

// TestAFilterLeavesNoTrace: sort_by of JMESPath sorts in place.
func TestAFilterLeavesNoTrace(t *testing.T) {
	t.Parallel()
	e, err := Compile(Options{Filter: "sort_by(payload.items, &n)[0].n == `1`", Payload: "payload.items[*].n"})
	if err != nil {
		t.Fatal(err)
	}
	m := message.Message{Payload: []byte(`{"items": [{"n": 3}, {"n": 1}, {"n": 2}]}`)}
	if keep, err := e.Apply(&m); !keep || err != nil || string(m.Payload) != "[3,1,2]" {
		t.Errorf("became %s, %t, %v", m.Payload, keep, err)
	}
}

// FuzzExpressionsNeverPanic: whatever the expression and the event, the
// outcome is a value or an error.
func FuzzExpressionsNeverPanic(f *testing.F) {
	for _, language := range []string{"jmespath", "cel"} {
		for _, text := range []string{"payload.a == 'x'", "{a: payload.a}", "sort_by(payload.a, &b)", "payload[1:2:-1]", "size(payload.a) > 1", "let $x = payload in $x"} {
			f.Add(language, text, `{"a": [1, "x", null]}`)
		}
	}
	f.Fuzz(func(t *testing.T, language, text, payload string) {
		if e, err := Compile(Options{Language: language, Payload: text}); err == nil && e != nil {
			m := message.Message{EventID: "e", Payload: []byte(payload)}
			if keep, err := e.Apply(&m); err == nil && keep && !json.Valid(m.Payload) {
				t.Errorf("%s on %s gave %s, which is not JSON", text, payload, fmt.Sprintf("%q", m.Payload))
			}
		}
	})
}
