package examples

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// language is how an example is built and started.
type language struct {
	folder string
	// needs are programs and, beside each, the package that has it.
	needs [][2]string
	// install runs in a copy of the folder, so that nothing is left behind.
	install [][]string
	// hurry are variables that make the installation take less of the processor.
	hurry []string
	run   []string
	// database turns a URL into what the language's driver takes.
	database func(u url.URL) string
}

func languages() []language {
	return []language{
		{
			folder: "go", needs: [][2]string{{"go", "golang"}},
			install: [][]string{{"go", "build", "-o", "{dir}/payments", "github.com/pg-tide/pg-tide/examples/go"}},
			run:     []string{"{dir}/payments"}, database: libpq,
		},
		{
			folder: "typescript", needs: [][2]string{{"node", "nodejs"}, {"npm", "npm"}},
			install: [][]string{{"npm", "ci", "--prefer-offline", "--no-audit", "--no-fund"}, {"npm", "run", "build"}},
			run:     []string{"node", "{dir}/dist/payments.js"}, database: libpq,
		},
		{
			folder: "python", needs: [][2]string{{"python3", "python3-venv"}, {"pip3", "python3-pip"}},
			// A pip within it would take longer to make than all the rest.
			install: [][]string{{"python3", "-m", "venv", "--without-pip", "{dir}/venv"},
				{"pip3", "--python", "{dir}/venv/bin/python", "install", "--quiet", "--no-compile", "--require-hashes", "-r", "requirements.txt"}},
			run: []string{"{dir}/venv/bin/python", "{dir}/payments.py"}, database: libpq,
		},
		{
			folder: "java", needs: [][2]string{{"javac", "default-jdk-headless"}, {"mvn", "maven"}},
			install: [][]string{{"mvn", "--quiet", "--batch-mode", "--no-transfer-progress", "compile", "dependency:copy-dependencies"}},
			hurry:   []string{"MAVEN_OPTS=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
			run:     []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", "{dir}/target/classes:{dir}/target/lib/*", "Payments"}, database: jdbc,
		},
	}
}

func libpq(u url.URL) string { return u.String() }

func jdbc(u url.URL) string {
	query := u.Query()
	password, _ := u.User.Password()
	query.Set("user", u.User.Username())
	query.Set("password", password)
	query.Set("ApplicationName", query.Get("application_name"))
	query.Del("application_name")
	return fmt.Sprintf("jdbc:postgresql://%s%s?%s", u.Host, u.Path, query.Encode())
}

// built installs what the example needs, and returns how to start it.
func (l language) built(t *testing.T) (command []string) {
	t.Helper()
	for _, need := range l.needs {
		if _, err := exec.LookPath(need[0]); err != nil {
			missing(t, need[0], need[1])
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(l.folder)); err != nil {
		t.Fatalf("copy the example: %v", err)
	}
	for _, step := range l.install {
		step = inDir(step, dir)
		install := exec.CommandContext(t.Context(), step[0], step[1:]...)
		if l.folder != "go" { // which is built where its module is
			install.Dir = dir
		}
		install.Env = append(os.Environ(), l.hurry...)
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(step, " "), err, out)
		}
	}
	return inDir(l.run, dir)
}

// missing skips the test, but not in CI, which installs what is needed.
func missing(t *testing.T, program, pack string) {
	t.Helper()
	why := fmt.Sprintf("there is no %s on this machine (package %s), and the example needs it to run", program, pack)
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func inDir(words []string, dir string) []string {
	words = slices.Clone(words)
	for i := range words {
		words[i] = filepath.FromSlash(strings.ReplaceAll(words[i], "{dir}", dir))
	}
	return words
}
