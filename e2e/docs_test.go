package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// TestPagesDoWhatTheySay runs what stands on a page, in its order: SQL, files
// (a block whose fence names one), and commands, whose output must be the one
// shown. "…" stands for what differs from run to run.
func TestPagesDoWhatTheySay(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"routing", "wire-formats"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", "docs", name+".md"))
			if err != nil {
				t.Fatal(err)
			}
			page := &page{dsn: schematest.Database(t, 0), dir: t.TempDir(), path: filepath.Dir(built(t))}
			ran := 0
			for _, block := range fenced.FindAllSubmatch(text, -1) {
				kind, file, content := string(block[1]), string(block[2]), string(block[3])
				switch {
				case file != "":
					if err := os.WriteFile(filepath.Join(page.dir, file), []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
				case kind == "sql":
					page.sql(t, content)
				case kind == "console":
					page.console(t, content)
				default:
					continue
				}
				ran++
			}
			if ran < 5 {
				t.Errorf("%d blocks were run; the fences are no longer understood", ran)
			}
		})
	}
}

// fenced is a block of a page: its language, the file that it is, its text.
var fenced = regexp.MustCompile("(?ms)^```(\\w+) ?([\\w.-]*)\n(.*?)^```$")

type page struct {
	dsn, dir, path string
}

func (p *page) sql(t *testing.T, text string) {
	t.Helper()
	if _, err := ask(t.Context(), p.dsn, text); err != nil {
		t.Errorf("%s\n%v", text, err)
	}
}

// console runs the lines that begin with "$ " and compares what follows each.
func (p *page) console(t *testing.T, text string) {
	t.Helper()
	for _, part := range strings.Split("\n"+text, "\n$ ")[1:] {
		command, want, _ := strings.Cut(part, "\n")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		run := exec.CommandContext(ctx, "sh", "-c", command)
		run.Dir = p.dir
		run.Env = append(os.Environ(), "PG_TIDE_POSTGRES_URL="+p.dsn, "PATH="+p.path+string(os.PathListSeparator)+os.Getenv("PATH"), "NATS_URL=nats://nats:4222")
		var out bytes.Buffer
		run.Stdout, run.Stderr = &out, &out
		err := run.Run() // some are meant to fail; what they say is compared
		cancel()
		if !asShown(want).MatchString(trimmed(out.String())) {
			t.Errorf("$ %s\n%s\nthe page says\n%s(%v)", command, out.String(), want, err)
		}
	}
}

// trimmed takes the blanks off the ends of lines, which no page shows.
func trimmed(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func asShown(text string) *regexp.Regexp {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(trimmed(text)), "…", ".*")
	return regexp.MustCompile("^" + quoted + "$")
}
