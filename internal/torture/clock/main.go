// Command clock writes what `go build -overlay` needs to build a pg-tide whose
// wall clock can be set while it runs. No operating system sets that clock for
// one process, and a Go program does not ask a library that could be replaced.
// So the package time is built with another Now, which adds an offset to the
// wall clock and leaves the monotonic one alone; the build tag tide_clock adds
// what sets the offset, and does not compile without the overlay. It refuses
// to guess: when the standard library reads otherwise than expected it fails.
//
//	go run ./internal/torture/clock -dir DIR
//	go build -overlay DIR/overlay.json -tags tide_clock -o pg-tide ./cmd/pg-tide
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	dir := flag.String("dir", "", "the folder to write into")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "clock:", err)
		os.Exit(1)
	}
}

// replacement is a text that must be there once, and what takes its place.
type replacement struct{ old, new string }

// replacements make the wall clock of package time one that can be set.
var replacements = []replacement{
	{"import (\n", "import (\n\t\"sync/atomic\"\n"},
	{"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", `func Now() Time {
	sec, nsec, mono := runtimeNow()
	sec += wallOffset.Load()
`},
	{"// Now returns the current local time.\n", "// Now returns the current local time, or what it was set to.\n"},
}

const addition = `
var wallOffset atomic.Int64

// SetWallOffset sets the wall clock of this process that many seconds off.
func SetWallOffset(seconds int64) { wallOffset.Store(seconds) }
`

// write writes the changed file and the overlay that names it.
func write(dir string) error {
	if dir == "" {
		return fmt.Errorf("-dir is missing: it names the folder to write into")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find %s: %w", dir, err)
	}
	root, err := exec.CommandContext(context.Background(), "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("ask go for GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return fmt.Errorf("read the standard library: %w", err)
	}
	if text, err = settable(text); err != nil {
		return fmt.Errorf("%s: %w", original, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	changed := filepath.Join(dir, "time.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return fmt.Errorf("write the overlay: %w", err)
	}
	if err := os.WriteFile(changed, text, 0o644); err != nil {
		return fmt.Errorf("write package time: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644); err != nil {
		return fmt.Errorf("write the overlay: %w", err)
	}
	return nil
}

// settable changes the text of package time.
func settable(text []byte) ([]byte, error) {
	for _, r := range replacements {
		if n := bytes.Count(text, []byte(r.old)); n != 1 {
			return nil, fmt.Errorf("the text %q is there %d times and must be there once: adapt the replacements to this version of Go", r.old, n)
		}
		text = bytes.Replace(text, []byte(r.old), []byte(r.new), 1)
	}
	return append(text, addition...), nil
}
