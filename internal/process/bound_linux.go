package process

import "syscall"

// bound lets the kernel end the child when we are killed.
func bound() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
