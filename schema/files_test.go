package schema_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/schema"
)

func TestGeneratedFilesEqualTheirSource(t *testing.T) {
	all, err := schema.Files()
	if err != nil {
		t.Fatal(err)
	}
	reference, err := schema.Reference()
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, schema.File{Name: "../../docs/sql.md", Content: reference})
	for _, f := range all {
		present, err := os.ReadFile(filepath.Join("extension", f.Name))
		if err != nil || !bytes.Equal(present, f.Content) {
			t.Errorf("%s differs from its source (%v); run: go run ./schema/generate", f.Name, err)
		}
	}
}

// A released script is history: databases were made by it. extension/SHA256SUMS
// has a line for each.
func TestReleasedScriptsAreNotEdited(t *testing.T) {
	sums, err := os.ReadFile("extension/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range schema.Released() {
		name := "pg_tide--" + version + ".sql"
		content, err := os.ReadFile(filepath.Join("extension", name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if line := hex.EncodeToString(sum[:]) + "  " + name; !strings.Contains(string(sums), line+"\n") {
			t.Errorf("%s was edited, or its line is missing: %s", name, line)
		}
	}
}
