package java_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/broker/java"
)

// install makes a Java that says it is of a version.
func install(t *testing.T, version string) (home string) {
	t.Helper()
	home = t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "#!/bin/sh\necho 'openjdk version \"" + version + "\" 2030-01-01' >&2\n"
	if err := os.WriteFile(filepath.Join(home, "bin", "java"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return home
}

func TestTakesTheOneOfJavaHome(t *testing.T) {
	home := install(t, "95.0.1")
	t.Setenv("JAVA_HOME", home)
	got, err := java.Find(t.Context(), 90)
	if err != nil || got.Home != home || got.Version != "95.0.1" || got.Program != filepath.Join(home, "bin", "java") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRefusesOneThatIsTooOld(t *testing.T) {
	t.Setenv("JAVA_HOME", install(t, "89.9.9"))
	if got, err := java.Find(t.Context(), 90); err == nil || !strings.Contains(err.Error(), "no Java 90 or newer; hint: install one") {
		t.Errorf("got %+v, %v", got, err)
	}
}
