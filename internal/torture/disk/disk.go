// Package disk makes a small file system of its own, so that it can be full
// without harm to anybody else. It lives in a mount namespace that a child
// holds, and goes when that child does, which is with us at the latest: nothing
// is mounted where others see it, and nothing stays behind. It refuses to be
// used for anything that must last.
package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNotAllowed is wrapped when this system, or this user, cannot have such a disk.
var ErrNotAllowed = errors.New("no file system can be mounted here")

// Disk is a file system of a fixed size.
type Disk struct {
	dir    string
	holder *holder
}

// New makes a disk of that many bytes.
func New(bytes int64) (*Disk, error) {
	h, dir, err := hold(bytes)
	if err != nil {
		return nil, fmt.Errorf("make a small disk: %w", err)
	}
	return &Disk{dir: dir, holder: h}, nil
}

// Dir is where the disk is found, by us and by processes that we start.
func (d *Disk) Dir() string { return d.dir }

func (d *Disk) filler() string { return filepath.Join(d.dir, "filler") }

// Fill takes all the room that is left, but for what a last block leaves.
func (d *Disk) Fill() error {
	file, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	defer func() { _ = file.Close() }() // what counts was written
	for _, size := range []int{1 << 20, 4 << 10} {
		piece := make([]byte, size)
		for err = nil; err == nil; {
			_, err = file.Write(piece)
		}
		if !full(err) {
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
	return nil
}

// Free gives back what Fill took; it may be called without.
func (d *Disk) Free() error {
	if err := os.Remove(d.filler()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("free the disk: %w", err)
	}
	return nil
}

// Close takes the disk away, with all that is on it. Processes that use it
// should have ended.
func (d *Disk) Close() { d.holder.release() }
