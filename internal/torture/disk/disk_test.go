package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pg-tide/pg-tide/internal/torture/disk"
)

func TestADiskIsFullAndHasRoomAgain(t *testing.T) {
	t.Parallel()
	d, err := disk.New(1 << 20)
	if errors.Is(err, disk.ErrNotAllowed) {
		t.Skipf("a small disk cannot be had here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	file := filepath.Join(d.Dir(), "file")
	write := func() error { return os.WriteFile(file, make([]byte, 64<<10), 0o600) }
	if err := write(); err != nil {
		t.Fatal(err)
	}
	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	if err := write(); err == nil {
		t.Error("a full disk took a file")
	}
	for range 2 {
		if err := d.Free(); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(); err != nil {
		t.Errorf("after it was freed: %v", err)
	}
	d.Close()
	if _, err := os.Stat(file); err == nil {
		t.Error("the disk is still there")
	}
}
