package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// public are the packages that users import.
var public = []string{"tide", "tide/tidetest", "relay"}

// plain are methods that an example of the type shows well enough.
var plain = map[string]bool{"Error": true, "Unwrap": true, "MarshalJSON": true, "UnmarshalJSON": true}

// Constants are values of a type, and shown with it.
func TestEveryPublicNameHasAnExampleThatIsRun(t *testing.T) {
	for _, folder := range public {
		exported, examples := map[string]bool{}, map[string]bool{}
		files, err := filepath.Glob(filepath.Join(root(t), folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", folder, len(files), err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, declaration := range file.Decls {
				if strings.HasSuffix(name, "_test.go") {
					note(examples, declaration, func(name string) bool { return strings.HasPrefix(name, "Example") })
				} else {
					note(exported, declaration, ast.IsExported)
				}
			}
			// An example without an output is compiled and not run.
			if runs, outputs := strings.Count(string(text), "\nfunc Example"), strings.Count(string(text), "\n\t// Output:"); runs != outputs {
				t.Errorf("%s has %d examples and %d outputs", name, runs, outputs)
			}
		}
		for name := range exported {
			if !examples["Example"+name] {
				t.Errorf("%s: %s has no example", folder, strings.ReplaceAll(name, "_", "."))
			}
		}
	}
}

func note(names map[string]bool, declaration ast.Decl, wanted func(string) bool) {
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		if !wanted(d.Name.Name) || plain[d.Name.Name] {
			return
		}
		if d.Recv == nil {
			names[d.Name.Name] = true
		} else if receiver := typeName(d.Recv.List[0].Type); wanted(receiver) {
			names[receiver+"_"+d.Name.Name] = true
		}
	case *ast.GenDecl:
		if d.Tok == token.CONST {
			return
		}
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if wanted(s.Name.Name) {
					names[s.Name.Name] = true
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if wanted(n.Name) {
						names[n.Name] = true
					}
				}
			}
		}
	}
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
