//go:build unix

package cache

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// TryLock takes the file's lock if nobody has it. The lock goes with the file
// or with the process.
func TryLock(file *os.File) (bool, error) {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// ownedByUs fails unless path itself, not what it links to, is ours.
func ownedByUs(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Geteuid() || info.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("%s belongs to somebody else", path)
	}
	return nil
}
