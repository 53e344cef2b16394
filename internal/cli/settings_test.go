package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// parsed runs a command line up to where the command itself would start, and
// returns the settings it came to.
func parsed(t *testing.T, environ []string, args ...string) (settings, string, error) {
	t.Helper()
	var warnings bytes.Buffer
	p := &program{Streams: Streams{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &warnings, Environ: environ}}
	root := p.root()
	for _, command := range append(root.Commands(), root) {
		if command.RunE != nil {
			command.RunE = func(*cobra.Command, []string) error { return nil }
		}
	}
	root.SetArgs(args)
	root.SetErr(&warnings)
	err := root.ExecuteContext(t.Context())
	return p.settings, warnings.String(), err
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	t.Parallel()
	file := write(t, "postgres_url: postgres://file\ndrain_timeout: 7s\nlog_level: debug\n")
	for name, c := range map[string]struct {
		environ, args []string
		url, drain    string
	}{
		"default":     {nil, nil, "", "5s"},
		"file":        {nil, []string{"--config", file}, "postgres://file", "7s"},
		"environment": {[]string{"PG_TIDE_POSTGRES_URL=postgres://env", "PG_TIDE_CONFIG=" + file}, nil, "postgres://env", "7s"},
		"flag": {[]string{"PG_TIDE_POSTGRES_URL=postgres://env", "PG_TIDE_DRAIN_TIMEOUT=8s"},
			[]string{"--config", file, "--postgres-url", "postgres://flag"}, "postgres://flag", "8s"},
		"run": {[]string{"PG_TIDE_DRAIN_TIMEOUT=8s"}, []string{"run", "--postgres-url=postgres://flag"}, "postgres://flag", "8s"},
	} {
		got, _, err := parsed(t, c.environ, c.args...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.postgresURL != c.url || got.drainTimeout.String() != c.drain {
			t.Errorf("%s: url %q, drain timeout %s; want %q, %s", name, got.postgresURL, got.drainTimeout, c.url, c.drain)
		}
	}
}

func TestEveryTwinIsSetByItsVariable(t *testing.T) {
	t.Parallel()
	file := write(t, "postgres://from-file\n")
	config := write(t, "{}\n")
	got, warnings, err := parsed(t, []string{
		"PG_TIDE_CONFIG=" + config, "PG_TIDE_POSTGRES_URL_FILE=" + file, "PG_TIDE_METRICS_ADDR=:9090",
		"PG_TIDE_DRAIN_TIMEOUT=1s", "PG_TIDE_LOG_FORMAT=json", "PG_TIDE_LOG_LEVEL=warn",
	})
	if err != nil || warnings != "" {
		t.Fatal(err, warnings)
	}
	if got.postgresURL != "postgres://from-file" || got.httpAddr != ":9090" || got.drainTimeout.String() != "1s" ||
		got.logFormat != "json" || got.logLevel != "warn" || got.configFile != config {
		t.Errorf("settings are %+v", got)
	}
	got, _, err = parsed(t, []string{"PG_TIDE_HTTP_ADDR=:1", "PG_TIDE_OUTPUT=json"}, "status")
	if err != nil || got.output != "json" {
		t.Errorf("output is %q, %v", got.output, err)
	}
}

func TestWrongSettingsAreUsageErrorsThatNameTheValue(t *testing.T) {
	t.Parallel()
	urlFile := write(t, "postgres://from-file")
	for name, c := range map[string]struct {
		environ, args []string
		want          []string
	}{
		"variable":      {[]string{"PG_TIDE_DRAIN_TIMEOUT=soon"}, nil, []string{"PG_TIDE_DRAIN_TIMEOUT", `"soon"`}},
		"negative":      {nil, []string{"--drain-timeout=-1s"}, []string{"-1s"}},
		"log format":    {nil, []string{"--log-format=xml"}, []string{"--log-format", `"xml"`, "json"}},
		"two addresses": {nil, []string{"--http-addr=:1", "--metrics-addr=:2"}, []string{":1", ":2"}},
		"two URLs":      {nil, []string{"--postgres-url=a", "--postgres-url-file", urlFile}, []string{"--postgres-url", "--postgres-url-file"}},
		"no URL file":   {nil, []string{"--postgres-url-file=/does/not/exist"}, []string{"/does/not/exist"}},
		"empty file":    {nil, []string{"--postgres-url-file", write(t, "\n")}, []string{"empty"}},
		"no config":     {nil, []string{"--config=/does/not/exist"}, []string{"/does/not/exist"}},
		"unknown key":   {nil, []string{"--config", write(t, "log_level: info\npostgres_ulr: x\n")}, []string{"line 2", `"postgres_ulr"`}},
		"twice":         {nil, []string{"--config", write(t, "log_level: info\nlog_level: warn\n")}, []string{"log_level"}},
		"not YAML":      {nil, []string{"--config", write(t, "a: [")}, []string{"configuration file"}},
		"not a value":   {nil, []string{"--config", write(t, "log_level: [a, b]\n")}, []string{"log_level", "single value"}},
		"wrong value":   {nil, []string{"--config", write(t, "drain_timeout: soon\n")}, []string{"line 1", `"soon"`}},
	} {
		_, _, err := parsed(t, c.environ, c.args...)
		if exitCode(err) != exitUsage {
			t.Errorf("%s: %v is no usage error", name, err)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not contain %q", name, err, part)
			}
		}
	}
}

func TestUnknownKeySuggestsTheNearest(t *testing.T) {
	t.Parallel()
	_, _, err := parsed(t, nil, "--config", write(t, "postgres_ulr: x\n"))
	if hint := hintOf(err); hint != "did you mean postgres_url?" {
		t.Errorf("hint is %q", hint)
	}
}

func TestMistypedVariableIsNamed(t *testing.T) {
	t.Parallel()
	_, warnings, err := parsed(t, []string{"PG_TIDE_POSTGRES_ULR=x", "PG_TIDE_SERVICE_PORT=tcp://10.0.0.1"})
	if err != nil || !strings.Contains(warnings, "did you mean PG_TIDE_POSTGRES_URL?") || strings.Contains(warnings, "SERVICE_PORT") {
		t.Errorf("warnings are %q, %v", warnings, err)
	}
}
