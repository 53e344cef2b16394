package transform

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

func order(payload string) *message.Message {
	return &message.Message{
		EventID: "e1", Outbox: "order_events", OutboxID: 42, Stream: "orders", Key: "K-1", Op: "insert", EventType: "order.created",
		Payload: []byte(payload), Headers: []byte(`{"tenant": "acme", "x-y": "z"}`),
	}
}

const created = `{"event_type": "order.created", "total": 149.99, "qty": 2, "customer": {"id": "CUST-42"}, "tags": ["a", "b"],
	"big": 9007199254740993, "huge": 1e400, "long": 0.1234567890123456789}`

func TestFilters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		language, filter string
		keep             bool
	}{
		{"", "payload.event_type == 'order.created'", true}, // as the tutorial types it
		{"jmespath", "payload.event_type == 'order.cancelled'", false},
		{"jmespath", "payload.total > `100` && payload.qty == `2`", true},
		{"jmespath", "payload.no.such.field == 'x'", false},
		{"jmespath", "payload.missing", false}, // null drops
		{"jmespath", "contains(payload.tags, 'b')", true},
		{"jmespath", "headers.tenant == 'acme' && stream == 'orders' && key == 'K-1' && op == 'insert' && event_type == 'order.created'", true},
		{"jmespath", `headers."x-y" == 'z'`, true},
		{"jmespath", "@.payload.qty == `2` && $.payload.qty == `2`", true},
		{"jmespath", "payload.tags[?@ == 'b'] | [0] == 'b'", true},
		{"jmespath", "length(payload.tags[?@ != 'b' && $.op == 'insert']) == `1`", true},
		{"jmespath", "let $x = payload.qty in let $y = $x in $y == `2`", true},
		{"jmespath", "payload.customer.{x: id}.x == 'CUST-42' && payload.*.id != 'x'", true},
		{"jmespath", "max_by([{n: payload.qty}, {n: payload.total}], &n).n == payload.total", true},
		// as every number is compared: as a double
		{"jmespath", "payload.big > `5` && payload.big == `9007199254740993`", true},
		{"cel", "payload.big > 5.0 && payload.huge > payload.big", true},
		{"jmespath", "payload.huge > payload.big && payload.long < `1`", true},
		{"cel", "payload.total > 100 && payload.qty == 2", true},
		{"cel", "headers.tenant == 'acme' && stream == 'orders' && key == 'K-1' && op == 'insert' && event_type == 'order.created'", true},
		{"cel", "has(payload.missing) && payload.missing == 1", false},
		{"cel", "payload.customer.id.startsWith('CUST-')", true},
	} {
		t.Run(c.filter, func(t *testing.T) {
			t.Parallel()
			e, err := Compile(Options{Language: c.language, Filter: c.filter})
			if err != nil {
				t.Fatal(err)
			}
			m := order(created)
			keep, err := e.Apply(m)
			if err != nil || keep != c.keep {
				t.Errorf("keep is %t, %v; want %t", keep, err, c.keep)
			}
			if string(m.Payload) != created {
				t.Errorf("a filter changed the payload to %s", m.Payload)
			}
		})
	}
}

func TestPayloadExpressions(t *testing.T) {
	t.Parallel()
	const exact = `{"big": 9007199254740993, "long": 0.1234567890123456789, "price": 149.99, "html": "<a&b>"}`
	for _, c := range []struct{ language, expression, payload, want string }{
		{"jmespath", "{id: payload.customer.id, total: payload.total}", created, `{"id":"CUST-42","total":149.99}`},
		{"jmespath", "payload.customer", created, `{"id":"CUST-42"}`},
		{"jmespath", "payload.nope", created, `null`},
		// to the last digit, although neither fits a float
		{"jmespath", "{b: payload.big, l: payload.long, p: payload.price, h: payload.html}", exact,
			`{"b":9007199254740993,"h":"<a&b>","l":0.1234567890123456789,"p":149.99}`},
		{"cel", "{'id': payload.customer.id, 'many': payload.qty > 1}", created, `{"id":"CUST-42","many":true}`},
		{"cel", "[payload.total, stream, null]", created, `[149.99,"orders",null]`},
		{"cel", "payload.qty + 1.0", created, `3`},
		{"cel", "payload.big", exact, `9007199254740993`},
	} {
		t.Run(c.language+" "+c.expression, func(t *testing.T) {
			t.Parallel()
			e, err := Compile(Options{Language: c.language, Payload: c.expression})
			if err != nil {
				t.Fatal(err)
			}
			m := order(c.payload)
			if keep, err := e.Apply(m); err != nil || !keep || string(m.Payload) != c.want {
				t.Errorf("got %t, %v, %s; want %s", keep, err, m.Payload, c.want)
			}
		})
	}
}

func TestAnExpressionThatFailsOnOneEventIsThatEventsFailure(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Filter: "abs(payload.event_type) > `1`"},
		{Filter: "payload.event_type"}, // neither true nor false
		{Language: "cel", Filter: "payload.missing == 1"},
		{Language: "cel", Filter: "payload.total / 0.0 == 1.0 || payload.missing"},
		{Payload: "abs(payload.event_type)"},
		{Language: "cel", Payload: "payload.missing"},
	} {
		e, err := Compile(o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Apply(order(created))
		verdict, _ := delivery.VerdictOf(err)
		if err == nil || verdict != delivery.VerdictReject || !strings.Contains(err.Error(), "event e1") {
			t.Errorf("%+v: got %v, want a rejection that names the event", o, err)
		}
		if keep, err := e.Apply(order(`{"event_type": 1, "missing": 1, "total": 1}`)); o.Language == "" && o.Payload == "" && strings.HasPrefix(o.Filter, "abs") && err != nil {
			t.Errorf("%+v: the next event fails too: %t, %v", o, keep, err)
		}
	}
}

func TestWrongExpressionsAreRefusedWithPositionAndHint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ language, filter, want string }{
		{"jmespath", "payload.[", "at character"},
		{"jmespath", "payload.a = 'x'", "not JMESPath"},
		{"jmespath", "   ", "empty"},
		// JMESPath itself takes these and then drops or fails every event.
		{"jmespath", "paylaod.event_type == 'x'", `names "paylaod", and an expression sees payload, headers, stream, key, op and event_type (did you mean "payload"?)`},
		{"jmespath", "customer_id == 'x'", "written payload.customer_id"},
		{"jmespath", `payload.a == "x"`, "strings in single quotes"},
		{"jmespath", "{a: payload.a, b: customer}", `names "customer"`},
		{"jmespath", "@.customer", `names "customer"`},
		{"jmespath", "payload.items[?$.customer == a]", `names "customer"`},
		{"jmespath", "lengths(payload.a)", `calls lengths(), which does not exist (did you mean "length"?)`},
		{"jmespath", "length(payload.a, payload.b)", "wrong number of arguments: 2"},
		{"jmespath", "contains(payload.a)", "wrong number of arguments: 1"},
		{"jmespath", "let $x = payload.a in $y == 'z'", "uses $y"},
		{"jmespath", "let $x == payload.a in $x", "binds nothing"},
		{"jmespath", "(let $x = payload.a in $x) == $x", "uses $x"},
		{"jmespath", "let $x = payload.a, $y = $x in $y", "uses $x"},
		{"cel", "payload.(", "1:9"},
		{"cel", "paylaod.total > 1", "undeclared reference to 'paylaod'"},
		{"python", "x", "must be jmespath or cel"},
	} {
		_, err := Compile(Options{Language: c.language, Filter: c.filter})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "transform.filter") {
			t.Errorf("%s %q: got %v, want %q in it", c.language, c.filter, err, c.want)
		}
	}
}

func TestNothingToDoIsNoChange(t *testing.T) {
	t.Parallel()
	if e, err := Compile(Options{Language: "cel"}); e != nil || err != nil {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestRouterTakesTheFirstRuleThatMatches(t *testing.T) {
	t.Parallel()
	rules := []Rule{
		{When: "payload.total > `1000`", To: "big.{op}"},
		{When: "payload.total > `100`", To: "middle.{payload.customer.id}"},
		{When: "payload.total < `0`", Drop: true},
	}
	r, err := CompileRouter("jmespath", rules, Unmatched{To: "other.{stream}"}, NATSToken)
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]string{
		`{"total": 5000}`: "big.insert",
		`{"total": 500, "customer": {"id": "C.1"}}`: "middle.C_1",
		`{"total": 5}`:  "other.orders",
		`{"total": -5}`: "",
		`{}`:            "other.orders",
	} {
		m := order(payload)
		keep, err := r.Apply(m)
		if err != nil || keep != (want != "") || m.Destination != want {
			t.Errorf("%s went to %q, %t, %v; want %q", payload, m.Destination, keep, err, want)
		}
	}
}

func TestRulesSeeHeadersAndAttributes(t *testing.T) {
	t.Parallel()
	for language, rules := range map[string][]Rule{
		"jmespath": {{When: "headers.tenant == 'acme' && op == 'update'", To: "a"}, {When: "starts_with(stream, 'ord') && key == 'k'", To: "b"}, {When: "event_type == 't'", To: "c"}},
		"cel":      {{When: "has(headers.tenant) && headers.tenant == 'acme' && op == 'update'", To: "a"}, {When: "stream.startsWith('ord') && key == 'k'", To: "b"}, {When: "event_type == 't'", To: "c"}},
	} {
		r, err := CompileRouter(language, rules, Unmatched{Drop: true}, NATSToken)
		if err != nil {
			t.Fatal(err)
		}
		for want, m := range map[string]message.Message{
			"0 a": {Stream: "x", Op: "update", Headers: []byte(`{"tenant": "acme"}`)},
			"1 b": {Stream: "orders", Key: "k", Op: "insert"},
			"2 c": {Stream: "orders", EventType: "t"},
			"-1 ": {Stream: "orders", EventType: "u"},
		} {
			rule, keep, err := r.Route(&m)
			if got := fmt.Sprintf("%d %s", rule, m.Destination); got != want || err != nil || keep != (rule != NoRule) {
				t.Errorf("%s: got %q, %t, %v, want %q", language, got, keep, err, want)
			}
		}
	}
}

func TestAWrongRuleIsNamedWithItsPlace(t *testing.T) {
	t.Parallel()
	good := Rule{When: "payload.a", To: "x"}
	for _, c := range []struct {
		language string
		rules    []Rule
		want     []string
	}{
		{"jmespath", []Rule{good, {When: "payload.a == 'x", To: "x"}}, []string{`routing.rules[1].when "payload.a == 'x"`, "character 16", "Unclosed delimiter"}},
		{"jmespath", []Rule{{When: "a.[", To: "x"}}, []string{"routing.rules[0].when", "character 4"}},
		{"jmespath", []Rule{good, good, {When: "paylod.a", To: "x"}}, []string{"routing.rules[2].when", `did you mean "payload"?`}},
		{"cel", []Rule{{When: "payload.a == 1", To: "x"}, {When: "payload.a = 1", To: "x"}}, []string{"routing.rules[1].when", "at 1:11"}},
		{"jmespath", []Rule{{When: "payload.a", To: "{x}"}}, []string{"routing.rules[0].subject", "{x}"}},
		{"jmespath", []Rule{good, {When: "payload.a"}}, []string{"routing.rules[1]", "drop: true"}},
		{"jmespath", []Rule{{When: "payload.a", To: "x", Drop: true}}, []string{"routing.rules[0]", `"x"`, "keep one"}},
		{"jmespath", []Rule{{When: " ", To: "x"}}, []string{"routing.rules[0].when", "empty"}},
	} {
		_, err := CompileRouter(c.language, c.rules, Unmatched{To: "x"}, NATSToken)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: got %v, which lacks %q", c.rules, err, want)
			}
		}
	}
}

func TestAFailingRuleIsNamedAndTheNextIsNotAsked(t *testing.T) {
	t.Parallel()
	r, err := CompileRouter("jmespath", []Rule{{When: "payload.a", To: "x"}, {When: "payload.b", To: "y"}}, Unmatched{To: "z"}, NATSToken)
	if err != nil {
		t.Fatal(err)
	}
	m := message.Message{EventID: "e1", Payload: []byte(`{"a": "text", "b": true}`)}
	rule, keep, err := r.Route(&m)
	if rule != 0 || keep || err == nil || !strings.Contains(err.Error(), `routing.rules[0].when "payload.a" fails on event e1: it gave text`) {
		t.Errorf("got %d, %t, %v", rule, keep, err)
	}
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictReject {
		t.Errorf("the verdict is %d", verdict)
	}
}

// TestOnlyWhatIsAskedForIsParsed shows it with text that cannot be parsed.
func TestOnlyWhatIsAskedForIsParsed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		language, filter string
		needs            needs
	}{
		{"jmespath", "op == 'insert' && starts_with(stream, 'ord')", needs{}},
		{"jmespath", "headers.tenant == 'acme'", needs{headers: true}},
		{"jmespath", "payload.a == `1`", needs{payload: true}},
		{"jmespath", "not_null(headers.x, payload.a) == `1`", needs{payload: true, headers: true}},
		{"jmespath", "values(@)[0] != 'x'", needs{payload: true, headers: true}},
		{"jmespath", "* | length(@) == `6`", needs{payload: true, headers: true}},
		{"jmespath", "$.op == 'insert'", needs{payload: true, headers: true}},
		{"jmespath", "let $x = payload in $x.a == `1`", needs{payload: true}},
		{"cel", "op == 'insert' && stream.startsWith('ord')", needs{}},
		{"cel", "headers.tenant == 'acme'", needs{headers: true}},
		{"cel", "[1].exists(payload, payload == 1) && op == 'insert'", needs{payload: true}}, // a variable of that name counts
		{"cel", "has(payload.a)", needs{payload: true}},
	} {
		e, err := Compile(Options{Language: c.language, Filter: c.filter})
		if err != nil {
			t.Fatal(err)
		}
		if keep, err := e.Apply(&message.Message{Stream: "orders", Op: "insert", Payload: []byte(`{"a": 1}`), Headers: []byte(`{"tenant": "acme"}`)}); !keep || err != nil {
			t.Errorf("%s: %t, %v", c.filter, keep, err)
		}
		for _, broken := range []needs{{payload: true}, {headers: true}} {
			m := &message.Message{Stream: "orders", Op: "insert", Payload: []byte(`{"a": 1}`), Headers: []byte(`{"tenant": "acme"}`)}
			if broken.payload {
				m.Payload = []byte("{")
			} else {
				m.Headers = []byte("{")
			}
			asked := broken.payload && c.needs.payload || broken.headers && c.needs.headers
			if _, err := e.Apply(m); (err != nil) != asked {
				t.Errorf("%s: got %v although broken is %+v", c.filter, err, broken)
			}
		}
	}
	for template, broken := range map[string]*message.Message{
		"{headers.x}": {Payload: []byte("{"), Headers: []byte(`{"x": "y"}`)},
		"{payload.x}": {Payload: []byte(`{"x": "y"}`), Headers: []byte("{")},
	} {
		compiled, err := CompileTemplate(template, NATSToken)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := compiled.Expand(broken); err != nil || got != "y" {
			t.Errorf("%s gave %q, %v", template, got, err)
		}
	}
}
