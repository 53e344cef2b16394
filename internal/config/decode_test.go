package config

import (
	"errors"
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
		{"trailing data", `{"url":"u"} 1`, "behind its JSON object"},
		{"unknown key", `{"url":"u","batch_sise":1}`, `key "batch_sise" is not known (did you mean "batch_size"?)`},
		{"unknown nested key", `{"url":"u","transform":{"filtre":""}}`, `key "transform.filtre" is not known (did you mean "filter"?)`},
		{"missing", `{}`, `key "url" is missing (Where the broker is)`},
		{"wrong type", `{"url":1}`, `key "url" is 1 but must be a string`},
		{"null", `{"url":null}`, `key "url" must be a string`},
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
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Decode(fields, []byte(c.raw), resolver(nil))
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
	_, _, err := Decode(fields, []byte(`{"url":"u","password":12345,"mode":"${env:M}"}`), resolver(map[string]string{"M": "hunter2"}))
	if err == nil || strings.Contains(err.Error(), "12345") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a secret: %v", err)
	}
}

func FuzzDecodeNeverPanics(f *testing.F) {
	f.Add([]byte(`{"url":"u"}`))
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _, _ = Decode(fields, raw, resolver(nil)) })
}
