package schema_test

import (
	"bytes"
	"os"
	"path/filepath"
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
