package inject

import (
	"embed"
	"fmt"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// query returns the statement of that name. The files are part of the
// program, so a missing one is found by the first test that runs.
func query(name string) string {
	text, err := queryFiles.ReadFile("queries/" + name + ".sql")
	if err != nil {
		return fmt.Sprintf("-- no statement %q", name)
	}
	return string(text)
}
