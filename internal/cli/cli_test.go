package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/pg-tide/pg-tide/internal/listing"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// call runs a command line as a script would: without a terminal.
func call(t *testing.T, input string, args ...string) (code int, out, complaints string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	streams := Streams{In: strings.NewReader(input), Out: &stdout, Err: &stderr, Environ: []string{"HOME=" + t.TempDir()}}
	code = Run(t.Context(), args, streams, "1.2.3")
	return code, stdout.String(), stderr.String()
}

func TestWrongUsageExitsWith2AndSuggests(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"instal":                               "did you mean `pg-tide install`?",
		"status --wach":                        "did you mean --watch?",
		"pipeline lst":                         "did you mean `pg-tide pipeline list`?",
		"pipeline":                             "needs a subcommand",
		"pipeline show":                        "needs PIPELINE",
		"pipeline show a b":                    `no "b"`,
		"status --output xml":                  `"xml"`,
		"status --watch --check":               "watch",
		"dead-letter show abc":                 `"abc"`,
		"dead-letter retry p":                  "either ids or --all",
		"dead-letter retry p 1 --all":          "either ids or --all",
		"dead-letter retry p 0":                `"0"`,
		"publish":                              "needs an OUTBOX",
		"publish o {} more":                    "at most one PAYLOAD",
		"publish o {":                          "not JSON",
		"publish o {} --header x":              `"x"`,
		"publish o {} --header a= --header a=": "twice",
		"postgres://u:secret@h/d":              "--postgres-url",
		"extension":                            "--dest",
		"--http-addr :1 --metrics-addr :2":     "mean the same",
	} {
		code, out, complaints := call(t, "", strings.Fields(line)...)
		if code != 2 || out != "" {
			t.Errorf("%s: exit code %d, output %q, want 2 and nothing\n%s", line, code, out, complaints)
		}
		if !strings.HasPrefix(complaints, "pg-tide: ") || !strings.Contains(complaints, want) {
			t.Errorf("%s: complains %q, want %q", line, complaints, want)
		}
		if strings.Contains(complaints, "secret") {
			t.Errorf("%s: shows the password: %s", line, complaints)
		}
	}
}

func TestPasswordsAreNeverShown(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://user:s3cret@127.0.0.1:1/db", "postgres://user:s3cret@127.0.0.1:notaport/db", "postgres://user:s3cret@[::1/db",
		"host=127.0.0.1 port=1 password=s3cret", "host=127.0.0.1 password='s3cret", "postgres://user:s3cret%zz@127.0.0.1/db",
		"postgres://user:s3cret@127.0.0.1/db?sslmode=wrong", "postgres://user:s3:cret@127.0.0.1:1:2/db", "postgres://127.0.0.1:1/db?password=s3cret&connect_timeout=x",
	} {
		code, _, complaints := call(t, "", "status", "--postgres-url", url)
		if code == 0 || strings.Contains(complaints, "s3cret") || strings.Contains(complaints, "cret@") || strings.Count(complaints, "\n") > 2 {
			t.Errorf("%s: exit code %d, complains %q", url, code, complaints)
		}
	}
}

func TestVersionIsTheLinkersAndReadable(t *testing.T) {
	t.Parallel()
	code, out, _ := call(t, "", "version")
	if code != 0 || !strings.HasPrefix(out, "pg-tide 1.2.3\n") {
		t.Errorf("exit code %d, %q", code, out)
	}
	_, out, _ = call(t, "", "version", "--output", "json")
	var shown build
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.Version != "1.2.3" || shown.Go == "" {
		t.Errorf("%q: %v", out, err)
	}
	if code, out, _ = call(t, "", "--version"); code != 0 || out != "pg-tide 1.2.3\n" {
		t.Errorf("--version: %d %q", code, out)
	}
}

func TestEveryCommandHasHelpAndAnExample(t *testing.T) {
	t.Parallel()
	p := &program{}
	var visit func(command *cobra.Command)
	visit = func(command *cobra.Command) {
		if len(command.Commands()) == 0 && !strings.Contains(command.Example, command.CommandPath()) {
			t.Errorf("%s has no example of itself", command.CommandPath())
		}
		if command.Short == "" || strings.HasSuffix(command.Short, ".") {
			t.Errorf("%s: the short help is %q", command.CommandPath(), command.Short)
		}
		for _, child := range command.Commands() {
			visit(child)
		}
	}
	visit(p.root())
}

func TestCompletionForEveryShell(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, complaints := call(t, "", "completion", shell); code != 0 || !strings.Contains(out, "pg-tide") {
			t.Errorf("%s: exit code %d, %d bytes, %s", shell, code, len(out), complaints)
		}
	}
}

func TestRemovingNeedsAYes(t *testing.T) {
	t.Parallel()
	var asked bytes.Buffer
	p := &program{Streams: Streams{In: strings.NewReader(""), Err: &asked}}
	if err := p.confirm(false, "delete it"); err == nil || !strings.Contains(hintOf(err), "--yes") {
		t.Errorf("without a terminal: %v", err)
	}
	if err := p.confirm(true, "delete it"); err != nil {
		t.Errorf("with --yes: %v", err)
	}
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "": false, "maybe\n": false} {
		p.Streams = Streams{In: strings.NewReader(answer), Err: &asked, InIsTerminal: true}
		if err := p.confirm(false, "delete it"); (err == nil) != want {
			t.Errorf("answer %q: %v", answer, err)
		}
	}
}

func TestColourOnlyOnATerminalThatWantsIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		terminal bool
		environ  []string
		want     bool
	}{
		"terminal": {true, nil, true}, "pipe": {false, nil, false},
		"NO_COLOR": {true, []string{"NO_COLOR=1"}, false}, "empty NO_COLOR": {true, []string{"NO_COLOR="}, true}, "dumb": {true, []string{"TERM=dumb"}, false},
	} {
		p := &program{Streams: Streams{OutIsTerminal: c.terminal, Environ: c.environ}}
		if p.colours() != c.want {
			t.Errorf("%s: colours is %t", name, !c.want)
		}
	}
}

func TestStatusCheckNamesWhatDoesNotRun(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	seen := overview{
		pipelines: listing.Rows{
			Columns: []listing.Column{{Name: "pipeline"}, {Name: "state"}, {Name: "dead_letters"}},
			Values: [][]*string{
				{text("fine"), text("running"), text("0")}, {text("resting"), text("paused"), text("0")},
				{text("stuck"), text("blocked"), text("0")}, {text("sour"), text("running"), text("1")},
			},
		},
		inboxes: listing.Rows{
			Columns: []listing.Column{{Name: "inbox"}, {Name: "dead"}},
			Values:  [][]*string{{text("full"), text("2")}, {text("empty"), text("0")}},
		},
	}
	err := seen.problems()
	const want = `pipeline "stuck" is blocked; pipeline "sour" has 1 dead letter; inbox "full" has 2 dead messages`
	if exitCode(err) != exitProblems || err.Error() != want {
		t.Errorf("exit code %d, %v; want 3, %s", exitCode(err), err, want)
	}
	if err := (overview{}).problems(); err != nil {
		t.Errorf("nothing is wrong, and it says %v", err)
	}
}
