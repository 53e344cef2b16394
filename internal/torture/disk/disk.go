// Package disk makes a file system of its own, in memory, so that it can be
// full without harm to anybody else. It lives in a mount namespace that a child
// holds, and goes when that child does, which is with us at the latest: nothing
// is mounted where others see it, and nothing stays behind. It refuses to be
// used for anything that must last.
package disk

import (
	"errors"
	"fmt"
)

// ErrNotAllowed is wrapped when this system, or this user, cannot have such a disk.
var ErrNotAllowed = errors.New("no file system can be mounted here")

// Disk is a file system of a fixed size.
type Disk struct {
	dir    string
	bytes  int64
	holder *holder
}

// New makes a disk of that many bytes.
func New(bytes int64) (*Disk, error) {
	h, dir, err := hold(bytes)
	if err != nil {
		return nil, fmt.Errorf("make a disk: %w", err)
	}
	return &Disk{dir: dir, bytes: bytes, holder: h}, nil
}

// Dir is where the disk is found, by us and by processes that we start.
func (d *Disk) Dir() string { return d.dir }

// leastBytes is the least size: none at all means one without an end.
const leastBytes = 4096

// Fill leaves no room: the disk becomes as small as what is on it. Who writes
// meanwhile makes it larger than it was found, so that takes some attempts.
func (d *Disk) Fill() error {
	const attempts = 50
	var err error
	for range attempts {
		var used int64
		if used, err = usedBytes(d.dir); err != nil {
			return fmt.Errorf("look how full the disk is: %w", err)
		}
		if err = d.holder.resize(max(used, leastBytes)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("fill the disk: %w", err)
}

// Free gives the disk its size again; it may be called without Fill.
func (d *Disk) Free() error {
	if err := d.holder.resize(d.bytes); err != nil {
		return fmt.Errorf("free the disk: %w", err)
	}
	return nil
}

// Close takes the disk away, with all that is on it. Processes that use it
// should have ended.
func (d *Disk) Close() { d.holder.release() }
