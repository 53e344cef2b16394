package examples

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the services into their pages instead of comparing")

// mostLines is how long a service may be, without blank lines and comments.
const mostLines = 120

// included is a file on a page: its path in a comment, then its text.
var included = regexp.MustCompile("(?s)<!-- (examples/[^ ]+) -->\n```([a-z]+)\n(.*?)```\n")

// services are the files that are on the page of their language, whole.
func services(t *testing.T, folder string) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"*.go", "*.ts", "*.py", "src/main/java/*.java"} {
		found, err := filepath.Glob(filepath.Join(folder, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	return paths
}

func TestPagesShowTheServicesAsTheyAre(t *testing.T) {
	for _, lang := range languages() {
		page := filepath.Join("..", "docs", "workers", lang.folder+".md")
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		shown := map[string]bool{}
		fresh := included.ReplaceAllStringFunc(string(text), func(block string) string {
			part := included.FindStringSubmatch(block)
			source, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(part[1])))
			if err != nil {
				t.Fatal(err)
			}
			shown[part[1]] = true
			return "<!-- " + part[1] + " -->\n```" + part[2] + "\n" + string(source) + "```\n"
		})
		for _, path := range services(t, lang.folder) {
			if name := "examples/" + filepath.ToSlash(path); !shown[name] {
				t.Errorf("%s does not show %s", page, name)
			}
		}
		if fresh == string(text) {
			continue
		}
		if !*update {
			t.Errorf("%s shows another service than there is; run: go test ./examples -run Pages -update", page)
		} else if err := os.WriteFile(page, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServicesAreShort(t *testing.T) {
	comment := regexp.MustCompile(`^(//|#|/\*|\*)`)
	for _, lang := range languages() {
		paths := services(t, lang.folder)
		if len(paths) == 0 {
			t.Errorf("%s has no service", lang.folder)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := 0
			for line := range strings.Lines(string(text)) {
				if line = strings.TrimSpace(line); line != "" && !comment.MatchString(line) {
					lines++
				}
			}
			if lines >= mostLines {
				t.Errorf("%s has %d lines of code, not under %d", path, lines, mostLines)
			}
		}
	}
}

// A lock file that names a registry binds everybody to it.
func TestLockFilesNameNoRegistry(t *testing.T) {
	for _, path := range []string{"typescript/package-lock.json", "python/requirements.txt", "java/pom.xml"} {
		text, err := os.ReadFile(filepath.FromSlash(path))
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			if strings.Contains(line, "://") && !strings.Contains(line, "maven.apache.org/POM") &&
				!strings.Contains(line, `"url"`) { // of a project's own page, for donations
				t.Errorf("%s:%d names an address: %s", path, n+1, strings.TrimSpace(line))
			}
		}
	}
}
