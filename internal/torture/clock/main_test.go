package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestTheClockOfThisVersionOfGoCanBeSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	overlay, err := os.ReadFile(filepath.Join(dir, "overlay.json"))
	if err != nil || !strings.Contains(string(overlay), `time.go":`) {
		t.Errorf("%s: the overlay is %s, %v", runtime.Version(), overlay, err)
	}
}

func TestAnUnknownPackageTimeIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "import (\n", "import (\nimport (\n"} {
		if _, err := settable([]byte(text)); err == nil || !strings.Contains(err.Error(), "adapt") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
