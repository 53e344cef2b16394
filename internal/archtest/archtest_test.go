package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pg-tide/pg-tide"

// listed is what go list says about a package.
type listed struct {
	Dir, ImportPath string
	GoFiles         []string
	Imports         []string
}

// folder is the package's path within the module.
func (l listed) folder() string {
	return strings.TrimPrefix(strings.TrimPrefix(l.ImportPath, module), "/")
}

func packages(t *testing.T) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=Dir,ImportPath,GoFiles,Imports", module+"/...")
	command.Dir = root(t)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	var all []listed
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var one listed
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// ruleFor returns the rule of the longest folder that fits.
func ruleFor(folder string) (rule, bool) {
	for {
		if found, ok := rules[folder]; ok {
			return found, true
		}
		cut := strings.LastIndex(folder, "/")
		if cut < 0 {
			return rule{}, false
		}
		folder = folder[:cut]
	}
}

func (r rule) allows(folder, path string) bool {
	if !strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
		return true // the standard library
	}
	if ours, ok := strings.CutPrefix(path, module+"/"); ok {
		return slices.ContainsFunc(r.ours, func(allowed string) bool {
			tree, below := strings.CutSuffix(allowed, "/")
			return ours == tree || below && strings.HasPrefix(ours, tree+"/")
		})
	}
	return slices.ContainsFunc(r.outside, func(allowed string) bool {
		return path == strings.TrimSuffix(allowed, "/") || strings.HasPrefix(path, strings.TrimSuffix(allowed, "/")+"/")
	})
}

func TestPackagesImportOnlyWhatTheArchitectureAllows(t *testing.T) {
	for _, p := range packages(t) {
		rule, ok := ruleFor(p.folder())
		if !ok {
			t.Errorf("%s: no rule says what it may import; add one to rules_test.go and to ARCHITECTURE.md", p.folder())
			continue
		}
		for _, path := range p.Imports {
			if !rule.allows(p.folder(), path) {
				t.Errorf("%s imports %s, which the architecture does not allow", p.folder(), strings.TrimPrefix(path, module+"/"))
			}
		}
	}
}

// Without this a rule that never matches would look like one that is kept.
func TestRulesCatchAWrongArrow(t *testing.T) {
	for _, c := range []struct {
		folder, path string
		want         bool
	}{
		{"internal/relay", module + "/internal/catalog", false},
		{"internal/relay", pgx, false},
		{"internal/relay", module + "/internal/message", true},
		{"internal/connector/nats", module + "/internal/relay", false},
		{"internal/connector/nats", module + "/internal/connector/outbox", false},
		{"internal/app", module + "/internal/testkit/pgtest", false},
		{"internal/app", module + "/internal/connector/nats", true},
		{"internal/message", "strings", true},
		{"internal/message", "github.com/spf13/cobra", false},
		{"internal/catalog", pgx + "/pgxpool", true},
	} {
		r, ok := ruleFor(c.folder)
		if !ok || r.allows(c.folder, c.path) != c.want {
			t.Errorf("%s importing %s: allowed is %t", c.folder, c.path, !c.want)
		}
	}
}

// The map above sees each package alone, and could be changed for one; this
// sees what the linker sees.
func TestTheProductLinksNothingThatIsForTestsOnly(t *testing.T) {
	for _, folder := range whatUsersGet {
		command := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+folder)
		command.Dir = root(t)
		out, err := command.Output()
		if err != nil {
			t.Fatalf("go list -deps ./%s: %v", folder, err)
		}
		for path := range strings.FieldsSeq(string(out)) {
			for _, banned := range onlyInTests {
				if strings.HasPrefix(path, banned) {
					t.Errorf("%s links %s, which is for tests only", folder, path)
				}
			}
		}
	}
}

// Without this a misspelt path would look like one that nobody links.
func TestWhatIsForTestsOnlyIsFound(t *testing.T) {
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-test", "./internal/testkit/...", "./internal/connector/...", "./internal/catalog")
	command.Dir = root(t)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, banned := range onlyInTests {
		if !strings.Contains(string(out), "\n"+banned) {
			t.Errorf("no test has %s: is it spelt right?", banned)
		}
	}
}

// source is one parsed file.
type source struct {
	folder, name string
	lines        int
	file         *ast.File
	set          *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, name, text, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, source{folder: p.folder(), name: name, lines: bytes.Count(text, []byte("\n")), file: file, set: set})
		}
	}
	return all
}

func TestFunctionsFilesAndPackagesStaySmall(t *testing.T) {
	sizes := map[string]int{}
	for _, s := range sources(t) {
		sizes[s.folder] += s.lines
		if s.lines > mostFileLines {
			t.Errorf("%s/%s has %d lines, more than %d: split it along a noun", s.folder, s.name, s.lines, mostFileLines)
		}
		for _, declaration := range s.file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := s.set.Position(function.End()).Line - s.set.Position(function.Pos()).Line + 1
			if longFunctions[s.folder+"."+function.Name.Name] == "" && lines > mostFunctionLines {
				t.Errorf("%s/%s: %s has %d lines, more than %d", s.folder, s.name, function.Name.Name, lines, mostFunctionLines)
			}
		}
	}
	for folder, lines := range sizes {
		if lines > mostPackageLines && largePackages[folder] == "" {
			t.Errorf("%s has %d lines, more than %d: split it, or say in rules_test.go why not", folder, lines, mostPackageLines)
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		documented[s.folder] = documented[s.folder] || s.file.Doc != nil && len(s.file.Doc.Text()) > 40
	}
	for folder, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment says what it is for and what it refuses to do", folder)
		}
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	for _, s := range sources(t) {
		for _, declaration := range s.file.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
				t.Errorf("%s/%s has an init function: call it from where it is needed", s.folder, s.name)
			}
		}
	}
}

func TestNamesSayWhatIsInside(t *testing.T) {
	for _, s := range sources(t) {
		name := strings.TrimSuffix(s.name, ".go")
		if slices.Contains(drawers, name) || slices.Contains(drawers, filepath.Base(s.folder)) {
			t.Errorf("%s/%s: the name says nothing about what is inside", s.folder, s.name)
		}
	}
}
