package transform

import (
	"strings"
	"sync"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// apply compiles o and applies it to an event.
func apply(t *testing.T, o Options, payload string) (*message.Message, error) {
	t.Helper()
	e, err := Compile(o)
	if err != nil {
		t.Fatal(err)
	}
	m := order(payload)
	_, err = e.Apply(m)
	return m, err
}

// TestAnEventCannotUseUpTheMemory: memory that cannot be had ends the process.
func TestAnEventCannotUseUpTheMemory(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 100_000)
	list := strings.TrimSuffix(strings.Repeat(`"a",`, 10_000), ",")
	payload := `{"width": 999999999999, "s": "` + long + `", "list": [` + list + `]}`
	for _, o := range []Options{
		{Payload: "pad_left('x', payload.width)"},
		{Payload: "pad_right(payload.s, payload.width, '-')"},
		{Filter: "pad_left('x', payload.width) == 'x'"},
		{Payload: "replace(payload.s, 'a', payload.s)"},
		{Payload: "join(payload.s, payload.list)"},
		{Payload: "payload.list[*].[@, $.payload]"},
		{Payload: "to_string(payload.list[*].[@, $.payload])"},
		{Language: "cel", Payload: "payload.list.map(x, payload)"},
		{Language: "cel", Payload: "payload.list.map(x, {'s': payload.s})"},
		{Language: "cel", Filter: "payload.list.all(x, payload.list.all(y, x == y))"},
	} {
		_, err := apply(t, o, payload)
		if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject || !strings.Contains(err.Error(), "event e1") {
			t.Errorf("%+v: got %v, want a rejection", o, err)
		}
	}
	for expression, want := range map[string]string{
		"pad_left('x', `3`)":                  `"  x"`,
		"replace('aXa', 'a', 'bc')":           `"bcXbc"`,
		"join(', ', ['a', 'b'])":              `"a, b"`,
		"to_string({a: payload.width})":       `"{\"a\":999999999999}"`,
		"length(replace(payload.s, 'a', ''))": `0`,
	} {
		if m, err := apply(t, Options{Payload: expression}, payload); err != nil || string(m.Payload) != want {
			t.Errorf("%s gave %s, %v; want %s", expression, m.Payload, err, want)
		}
	}
}

// TestErrorsShowNothingOfThePayload: they go to logs and to relay_status.
func TestErrorsShowNothingOfThePayload(t *testing.T) {
	t.Parallel()
	const ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
	const costly = ten + ".all(a, " + ten + ".all(b, " + ten + ".all(c, " + ten + ".all(d, " + ten + ".all(e, " + ten + ".all(f, payload.secret != '')))))) "
	const payload = `{"secret": "hunter2(", "n": 4242, "mix": ["hunter2(", 4242, null], "objects": [{"a": "hunter2("}, {"a": 4242}]}`
	for _, c := range []struct{ language, expression, want string }{
		{"jmespath", "abs(payload.secret)", "abs() takes (number) and got (text)"},
		{"jmespath", "join(',', payload.secret)", "join() takes (string, array[string]) and got (text, text)"},
		{"jmespath", "sort(payload.mix)", "sort() takes (array[string] or array[number]) and got (a list)"},
		{"jmespath", "payload.objects[*].a | map(&abs(@), @)", "abs() takes (number) and got (text)"},
		{"jmespath", "sort_by(payload.objects, &a)", "sort_by comparison"},
		{"jmespath", "zip(payload.secret, payload.mix)", "zip() takes"},
		{"jmespath", "abs(payload.none)", "got (null)"},
		{"jmespath", "&payload", ""},
		{"cel", "timestamp(payload.secret)", "at 1:10"},
		{"cel", "payload[payload.secret]", "at 1:8"},
		{"cel", "'x'.matches(payload.secret)", "matches"},
		{"cel", "payload.mix[int(payload.n)]", "at 1:12"},
		{"cel", "{payload.n: 1}", "JSON has text for keys only"},
		{"cel", "payload.secret + 1", "operator +"},
		{"cel", "1 + payload.missing", "at 1:12: there is no payload.missing (test for it with has())"},
		{"cel", "payload.none.missing", "there is no payload.none.missing"},
		{"cel", "payload.secret ? 1 : 2", "neither true nor false"},
		{"cel", "-payload.secret", "operator -"},
		{"cel", "payload.mix[1].x.y", "there is no ….x.y"},
		{"cel", costly, "takes too long"},
		{"cel", "type(payload.secret)", "cannot be written as JSON"},
	} {
		e, err := Compile(Options{Language: c.language, Payload: c.expression})
		if err != nil {
			t.Fatal(err)
		}
		m := order(payload)
		_, err = e.Apply(m)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", c.expression, err, c.want)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "4242") {
			t.Errorf("%s: the error shows the payload: %v", c.expression, err)
		}
	}
}

// TestExpressionsMayBeUsedByManyAtOnce is for the race detector.
func TestExpressionsMayBeUsedByManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Filter: "sort_by(payload.a, &b)[0].b == `1`", Payload: "let $x = payload.a in {a: map(&b, $x), k: key}"},
		{Language: "cel", Filter: "payload.a.exists(x, x.b == 1)", Payload: "{'a': payload.a.map(x, x.b), 'k': key}"},
	} {
		e, err := Compile(o)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for _, key := range []string{"k0", "k1", "k2", "k3"} {
			all.Go(func() {
				for range 100 {
					m := message.Message{Key: key, Payload: []byte(`{"a":[{"b":2},{"b":1}]}`)}
					if keep, err := e.Apply(&m); !keep || err != nil || string(m.Payload) != `{"a":[2,1],"k":"`+key+`"}` {
						t.Errorf("%s gave %s, %t, %v", key, m.Payload, keep, err)
					}
				}
			})
		}
		all.Wait()
	}
}

func TestNoExpressionsKeepAnEvent(t *testing.T) {
	t.Parallel()
	var none *Expressions
	if keep, err := none.Apply(order(created)); !keep || err != nil {
		t.Errorf("got %t, %v", keep, err)
	}
}
