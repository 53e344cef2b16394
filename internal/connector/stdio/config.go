package stdio

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pg-tide/pg-tide/internal/config"
)

// Values is what the connector needs of a decoded configuration.
type Values interface {
	String(name string) string
	Int(name string) int64
}

// StdoutFields declares the keys of a pipeline with "sink_type": "stdout".
func StdoutFields() []config.Field { return nil }

// StdinFields declares the keys of a pipeline with "source_type": "stdin".
func StdinFields() []config.Field { return nil }

// FileFields declares the keys of a pipeline with "sink_type": "file".
func FileFields() []config.Field {
	return []config.Field{{Name: "path", Kind: config.String, Required: true,
		Help: "Absolute path of the file, which is made when it is missing; its name ends in .jsonl or .ndjson"}}
}

// endings are those of names that a file may have: whoever may configure a
// pipeline must not be able to write into any file of the relay's user.
var endings = []string{".jsonl", ".ndjson"}

func readPath(values Values) (string, error) {
	path := values.String("path")
	switch {
	case !filepath.IsAbs(path):
		return "", fmt.Errorf("key %q is %q but must be an absolute path", "path", path)
	case !slices.Contains(endings, filepath.Ext(path)):
		return "", fmt.Errorf("key %q is %q but must end in %s, so that no other kind of file is written to by mistake", "path", path, strings.Join(endings, " or "))
	case values.Int("lanes") > 1:
		return "", fmt.Errorf("key %q is %d, and a file has one writer; leave it out", "lanes", values.Int("lanes"))
	}
	return filepath.Clean(path), nil
}
