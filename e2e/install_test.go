package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestMakeInstallPlacesTheExtensionWherePgConfigSays(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	if err := os.Mkdir(filepath.Join(share, "extension"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "pg_config")
	if err := os.WriteFile(config, []byte("#!/bin/sh\n[ \"$1\" = --sharedir ] && echo '"+share+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "make", "-C", "..", "install", "PG_CONFIG="+config)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"pg_tide.control", "pg_tide--1.0.sql", "pg_tide--1.0--1.1.sql"} {
		if _, err := os.Stat(filepath.Join(share, "extension", name)); err != nil {
			t.Errorf("make install did not place %s: %v", name, err)
		}
	}
}
