//go:build unix && !linux

package throwaway

import "syscall"

// childAttributes put a child in its own process group, so that ctrl-C in a
// terminal reaches us alone. A child outlives us here if we are killed.
func childAttributes(as account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: credentials(as)}
}

// killTree stops a postmaster without a checkpoint; it takes its children along.
func killTree(pid int) error { return syscall.Kill(pid, signalImmediate) }
