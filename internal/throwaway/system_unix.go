//go:build unix

package throwaway

import (
	"fmt"
	"os"
	"syscall"
)

// The signals that PostgreSQL's postmaster understands.
const (
	signalFast      = syscall.SIGINT
	signalImmediate = syscall.SIGQUIT
)

// ownedByUs fails unless path itself, not what it links to, is ours.
func ownedByUs(path string) error {
	return ownedBy(path, account{uid: os.Geteuid()})
}

func ownedBy(path string, as account) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != as.uid || info.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("%s belongs to somebody else", path)
	}
	return nil
}

// credentials are nil when the child is to run as ourselves.
func credentials(as account) *syscall.Credential {
	if !as.switched {
		return nil
	}
	return &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)}
}
