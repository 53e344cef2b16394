// Command generate writes the extension's files and the reference of the SQL
// functions from the SQL files; with -check it only compares. It decides
// nothing: what is in the files, package schema says.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pg-tide/pg-tide/schema"
)

func main() {
	check := flag.Bool("check", false, "compare instead of writing")
	root := flag.String("root", ".", "the repository's directory")
	flag.Parse()
	if err := generate(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(root string, check bool) error {
	wanted := map[string][]byte{}
	extension, err := schema.Files()
	if err != nil {
		return err
	}
	for _, f := range extension {
		wanted[filepath.Join("schema", "extension", f.Name)] = f.Content
	}
	reference, err := schema.Reference()
	if err != nil {
		return err
	}
	wanted[filepath.Join("docs", "sql.md")] = reference
	for name, content := range wanted {
		if err := put(filepath.Join(root, name), content, check); err != nil {
			return err
		}
	}
	return nil
}

func put(path string, content []byte, check bool) error {
	present, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if bytes.Equal(present, content) && err == nil {
		return nil
	}
	if check {
		return fmt.Errorf("%s differs from its source; run: go run ./schema/generate", path)
	}
	return os.WriteFile(path, content, 0o644)
}
