package kafka

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/broker/java"
)

func TestSaysWhatToInstallWhereThereIsNoMaven(t *testing.T) {
	t.Setenv("PATH", "")
	err := fetchTree(t.Context(), java.Runtime{}, filepath.Join(t.TempDir(), "tree"))
	if err == nil || !strings.Contains(err.Error(), "no mvn to fetch it with; hint: install Maven") {
		t.Errorf("got %v", err)
	}
}
