//go:build !linux

package process

import "syscall"

// bound leaves the child as it is: only Linux ends it with us.
func bound() *syscall.SysProcAttr { return nil }
