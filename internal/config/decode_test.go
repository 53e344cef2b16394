package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

var fields = []Field{
	{Name: "url", Kind: String, Required: true, Help: "Where the broker is"},
	{Name: "password", Kind: String, Secret: true},
	{Name: "batch_size", Kind: Integer, Default: 500, Min: 1, Max: 10_000},
	{Name: "rate", Kind: Number},
	{Name: "create", Kind: Boolean, Default: true},
	{Name: "mode", Kind: String, Values: []string{"native", "cloudevents"}, Default: "native"},
	{Name: "durable", Kind: String, Aliases: []string{"consumer"}},
	{Name: "transform", Kind: Object, Fields: []Field{
		{Name: "filter", Kind: String},
		{Name: "language", Kind: String, Default: "jmespath"},
	}},
	{Name: "shown", Kind: String, Shown: true},
	{Name: "rules", Kind: Array, Fields: []Field{{Name: "when", Kind: String, Required: true}}},
}

func resolver(env map[string]string) Resolver {
	return Resolver{
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(path string) ([]byte, error) {
			if path == "/secret" {
				return []byte("from the file\n"), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
	}
}

func TestDecodesWhatIsGivenAndDefaultsTheRest(t *testing.T) {
	t.Parallel()
	v, notices, err := Decode(fields, []byte(`{"url": "u", "password": "${env:P}-${file:/secret}", "consumer": "c",
		"rate": 1.5, "transform": {"filter": "x"}, "rules": [{"when": "a"}, {"when": "b"}]}`), resolver(map[string]string{"P": "p"}))
	if err != nil {
		t.Fatal(err)
	}
	got := []any{v.String("url"), v.String("password"), v.Int("batch_size"), v.Float("rate"), v.Bool("create"), v.String("mode"),
		v.String("durable"), v.Object("transform").String("filter"), v.Object("transform").String("language"),
		len(v.List("rules")), v.List("rules")[1].String("when"), v.Has("durable"), v.Has("batch_size")}
	want := []any{"u", "p-from the file", int64(500), 1.5, true, "native", "c", "x", "jmespath", 2, "b", true, false}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("value %d is %v, want %v", i, got[i], want[i])
		}
	}
	if len(notices) != 1 || notices[0] != (Notice{Alias: "consumer", Name: "durable"}) {
		t.Errorf("notices are %v", notices)
	}
}

func TestRefusesWithPathValueRuleAndHint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, raw, want string }{
		{"not JSON", `{`, "not a JSON object"},
		{"an array", `[]`, "not a JSON object"},
		{"trailing data", `{"url":"u"} 1`, "something stands behind it"},
		{"cut short", `{"url":"u"`, "ends in the middle"},
		{"null itself", `null`, "not a JSON object"},
		{"twice", `{"url":"u","transform":{"filter":"a","filter":"b"}}`, `key "transform.filter" is given twice (keep one of them)`},
		{"unknown key", `{"url":"u","batch_sise":1}`, `key "batch_sise" is not known (did you mean "batch_size"?)`},
		{"unknown nested key", `{"url":"u","transform":{"filtre":""}}`, `key "transform.filtre" is not known (did you mean "filter"?)`},
		{"missing", `{}`, `key "url" is missing (Where the broker is)`},
		{"wrong type", `{"url":1}`, `key "url" is 1 but must be a string`},
		{"null", `{"url":null}`, `key "url" must be a string (null is no value: leave the key out)`},
		{"fraction", `{"url":"u","batch_size":1.5}`, `key "batch_size" is 1.5 but must be an integer`},
		{"out of range", `{"url":"u","batch_size":0}`, `key "batch_size" is 0 but must be from 1 to 10000`},
		{"number as text", `{"url":"u","rate":"1"}`, `key "rate" is "1" but must be a number`},
		{"not a choice", `{"url":"u","mode":"nativ"}`, `key "mode" is "nativ" but must be one of native, cloudevents (did you mean "native"?)`},
		{"not a boolean", `{"url":"u","create":"yes"}`, `must be a boolean`},
		{"not an object", `{"url":"u","transform":"x"}`, `must be an object`},
		{"not an array", `{"url":"u","rules":{}}`, `must be an array`},
		{"missing in an array", `{"url":"u","rules":[{}]}`, `key "rules[0].when" is missing`},
		{"alias and name", `{"url":"u","durable":"a","consumer":"b"}`, `another name for "durable"`},
		{"no such variable", `{"url":"${env:NOPE}"}`, `refers to the environment variable NOPE`},
		{"no such file", `{"url":"${file:/nope}"}`, `refers to the file /nope, which the relay cannot read: file does not exist`},
		{"unknown reference", `{"url":"${vault:x}"}`, `unknown kind "vault"`},
		{"reference without a kind", `{"url":"${NATS_URL}"}`, `has the reference ${NATS_URL}, which names nothing to look up (write ${env:NAME}`},
		{"open reference", `{"url":"${env:X"}`, "without its closing brace"},
		{"reference where all is shown", `{"url":"u","shown":"a ${env:P}"}`, `key "shown" may not hold a reference`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Decode(fields, []byte(c.raw), resolver(map[string]string{"P": "p"}))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestFindsAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := Decode(fields, []byte(`{"batch_size":"x","mod":"native"}`), resolver(nil))
	var all *Error
	if !errors.As(err, &all) || len(all.Problems) != 3 {
		t.Errorf("got %v, want three problems", err)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	t.Parallel()
	env := map[string]string{"M": "hunter2"}
	for _, raw := range []string{
		`{"url":"u","password":12345}`,
		`{"url":"u","mode":"${env:M}"}`,
		`{"url":"u","mode":"nats://me:hunter2@host"}`,
		`{"url":"u","mode":"nats://me:a@hunter2@host,nats://b"}`,
		`{"url":"u","batch_size":"nats://hunter2@host"}`,
		`{"url":"u","create":{"password":"hunter2"}}`,
		`{"url":"u","pasword":"hunter2"}`,
		`{"url":"u","password":"hunter2","x":hunter2}`,
	} {
		_, _, err := Decode(fields, []byte(raw), resolver(env))
		if err == nil {
			t.Errorf("%s was accepted", raw)
		} else if strings.Contains(err.Error(), "12345") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows a secret: %v", raw, err)
		}
	}
	values, _, err := Decode(fields, []byte(`{"url":"u","password":"${env:M}"}`), resolver(env))
	if err != nil || values.String("password") != "hunter2" {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, values); strings.Contains(text, "hunter2") {
			t.Errorf("%s prints the secret: %s", verb, text)
		}
	}
}

func TestTwoDollarsStandForTheCharactersThemselves(t *testing.T) {
	t.Parallel()
	v, _, err := Decode(fields, []byte(`{"url":"$${env:M} ${env:M} $x $"}`), resolver(map[string]string{"M": "${env:M}"}))
	if want := "${env:M} ${env:M} $x $"; err != nil || v.String("url") != want {
		t.Errorf("got %q, %v; want %q", v.String("url"), err, want)
	}
}

func TestWholeNumbersMayBeWrittenWithAFraction(t *testing.T) {
	t.Parallel()
	v, _, err := Decode(fields, []byte(`{"url":"u","batch_size":500.0,"rate":2}`), resolver(nil))
	if err != nil || v.Int("batch_size") != 500 || v.Float("rate") != 2 {
		t.Errorf("got %d, %v, %v", v.Int("batch_size"), v.Float("rate"), err)
	}
}

func FuzzDecodeNeverPanics(f *testing.F) {
	f.Add([]byte(`{"url":"u"}`))
	f.Add([]byte(`{"url":"${env:M}","mode":"${env:M}","rules":[{"when":"$${"}]}`))
	env := map[string]string{"M": "hunter2"}
	f.Fuzz(func(t *testing.T, raw []byte) {
		values, _, err := Decode(fields, raw, resolver(env))
		if err == nil && !values.Has("url") {
			t.Errorf("accepted without the required url: %s", raw)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") && !strings.Contains(string(raw), "hunter2") {
			t.Errorf("the error shows what a reference stands for: %v", err)
		}
	})
}
