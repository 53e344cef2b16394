package throwaway

import (
	"errors"
	"syscall"
)

const (
	signalFast      = syscall.SIGINT
	signalImmediate = syscall.SIGKILL
)

// errUnsupported is all that this package says on Windows.
var errUnsupported = errors.New("throwaway PostgreSQL servers need a Unix system")

func ownedByUs(string) error { return errUnsupported }

func ownedBy(string, account) error { return errUnsupported }

func childAttributes(account) *syscall.SysProcAttr { return nil }

func killTree(int) error { return errUnsupported }
