//go:build unix

package process

import "syscall"

const (
	freezeSignal    = syscall.SIGSTOP
	thawSignal      = syscall.SIGCONT
	terminateSignal = syscall.SIGTERM
)

// CanFreeze says whether this system can stop a process and let it go on.
const CanFreeze = true
