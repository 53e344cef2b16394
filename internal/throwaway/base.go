package throwaway

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/pg-tide/pg-tide/internal/cache"
)

// basePrefix begins the name of every server's temporary directory.
const basePrefix = "pg-tide-pg-"

// longestBase keeps the socket's path within what the kernel takes (103 bytes
// on the strictest).
const longestBase = 85

// base is a server's temporary directory, marked as alive by a lock that the
// kernel drops with the process, however it ends.
type base struct {
	dir  string
	mark *os.File
}

// makeBase makes a directory that belongs to the account, after removing
// those whose owners died without removing them.
func makeBase(as account, parent string) (*base, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if !as.canReach(parent) || len(parent) > longestBase-len("/")-len(basePrefix)-len("4294967295") {
		parent = "/tmp"
	}
	removeAbandoned(parent, as)
	dir, err := os.MkdirTemp(parent, basePrefix)
	if err != nil {
		return nil, fmt.Errorf("make a directory for a throwaway PostgreSQL: %w", err)
	}
	b := &base{dir: dir}
	if err := b.claim(as); err != nil {
		b.remove()
		return nil, fmt.Errorf("claim %s: %w", dir, err)
	}
	return b, nil
}

// claim locks the mark before it has its name: who finds it by name and can
// lock it knows that we are gone.
func (b *base) claim(as account) error {
	mark, err := os.OpenFile(filepath.Join(b.dir, "owner.new"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	b.mark = mark
	if ok, err := cache.TryLock(mark); err != nil || !ok {
		return fmt.Errorf("lock the mark: %w", err)
	}
	if err := os.Rename(mark.Name(), filepath.Join(b.dir, "owner")); err != nil {
		return err
	}
	return as.own(b.dir)
}

// remove deletes the directory. What cannot be removed is left for the next
// server's start.
func (b *base) remove() {
	_ = os.RemoveAll(b.dir)
	if b.mark != nil {
		_ = b.mark.Close()
	}
}

// removeAbandoned deletes what processes left that were killed.
func removeAbandoned(parent string, as account) {
	dirs, err := filepath.Glob(filepath.Join(parent, basePrefix+"*"))
	if err != nil {
		return // only a malformed pattern fails
	}
	for _, dir := range dirs {
		if ownedBy(dir, as) != nil || ownedByUs(filepath.Join(dir, "owner")) != nil {
			continue
		}
		mark, err := os.OpenFile(filepath.Join(dir, "owner"), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if ok, err := cache.TryLock(mark); err == nil && ok {
			_ = os.RemoveAll(dir) // the next start tries again
		}
		_ = mark.Close()
	}
}
