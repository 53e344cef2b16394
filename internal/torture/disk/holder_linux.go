package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// script mounts in the namespace that it runs in, says so, and waits for the
// end of its input.
const script = `mount --make-rprivate / 2>/dev/null
mount -t tmpfs -o "size=$1,mode=0700" tmpfs "$2" && echo mounted && exec cat`

// holder is the child that keeps the namespace.
type holder struct {
	command *exec.Cmd
	input   io.Closer
	place   string
}

// hold starts a holder: as ourselves in a namespace of users, else as root.
func hold(bytes int64) (*holder, string, error) {
	users := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var problems []error
	for _, attributes := range []*syscall.SysProcAttr{users, {Cloneflags: syscall.CLONE_NEWNS}} {
		h, dir, err := start(attributes, bytes)
		if err == nil {
			return h, dir, nil
		}
		problems = append(problems, err)
	}
	return nil, "", fmt.Errorf("%w: %w", ErrNotAllowed, errors.Join(problems...))
}

func start(attributes *syscall.SysProcAttr, bytes int64) (*holder, string, error) {
	place, err := os.MkdirTemp("", "pg-tide-disk-")
	if err != nil {
		return nil, "", err
	}
	// It lives until it is released, longer than any call.
	h := &holder{place: place, command: exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "sh", strconv.FormatInt(bytes, 10), place)}
	h.command.SysProcAttr = attributes
	var said strings.Builder
	h.command.Stderr = &said
	input, err := h.command.StdinPipe()
	if err == nil {
		h.input = input
		var output io.ReadCloser
		if output, err = h.command.StdoutPipe(); err == nil {
			err = h.await(output)
		}
	}
	if err != nil {
		h.release()
		return nil, "", fmt.Errorf("%w %s", err, strings.TrimSpace(said.String()))
	}
	// The way into the child's namespace, for whoever may look into the child.
	dir := filepath.Join("/proc", strconv.Itoa(h.command.Process.Pid), "root", place)
	if _, err := os.Stat(dir); err != nil {
		h.release()
		return nil, "", err
	}
	return h, dir, nil
}

// await starts the child and waits until it has mounted.
func (h *holder) await(output io.Reader) error {
	if err := h.command.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || line != "mounted\n" {
		return errors.Join(errors.New("mount"), h.command.Wait())
	}
	return nil
}

// release ends the child, and with it the namespace and the disk.
func (h *holder) release() {
	if h.input != nil {
		_ = h.input.Close() // which ends it
	}
	if h.command.Process != nil && h.command.ProcessState == nil {
		_ = h.command.Wait() // it ends by the end of its input
	}
	_ = os.RemoveAll(h.place) // an empty folder
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) }
