//go:build unix

package stdio

import (
	"os"
	"syscall"
)

// lock makes the file this process's until it is closed, or fails at once.
func lock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a descriptor fits an int
}
