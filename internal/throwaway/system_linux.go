package throwaway

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// childAttributes put a child in its own process group, so that ctrl-C in a
// terminal reaches us alone, and end it when we die without stopping it.
func childAttributes(as account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Setpgid:    true,
		Credential: credentials(as),
		Pdeathsig:  signalImmediate,
	}
}

// killTree ends a postmaster and its children at once, as a crash of the
// machine would. The postmaster is halted first, so that no child is forked
// while they are being counted.
func killTree(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	children, listErr := childrenOf(pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL) // it may have ended by itself
	}
	return listErr
}

// childrenOf reads the process table. A process that ends meanwhile is no child.
func childrenOf(pid int) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var state string
		var parent int
		// The name, in brackets, may hold anything; the last bracket ends it.
		rest := text[bytes.LastIndexByte(text, ')')+1:]
		if _, err := fmt.Sscan(string(rest), &state, &parent); err != nil || parent != pid {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			children = append(children, child)
		}
	}
	return children, nil
}
