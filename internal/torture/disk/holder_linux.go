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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// script mounts in the namespace that it runs in, says so, and gives the file
// system each size that it reads, until the end of its input.
//
// A change of the mount names device and folder, as the mount did. With the
// folder alone, mount repeats all options that the system shows, among them the
// owner by a number that a namespace of users does not have, and is refused.
const script = `mount --make-rprivate / 2>/dev/null
mount -t tmpfs -o "size=$1,mode=0700" tmpfs "$2" && echo done || exit 1
while read -r size; do
	if mount -t tmpfs -o "remount,size=$size" tmpfs "$2" 2>/dev/null; then echo done; else echo refused; fi
done`

// holder is the child that keeps the namespace.
type holder struct {
	command *exec.Cmd
	place   string

	mu     sync.Mutex // one question at a time
	input  io.WriteCloser
	answer *bufio.Reader
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
		switch {
		case err == nil:
			return h, dir, nil
		case !refused(err):
			return nil, "", err // something is broken, and that must not pass for a refusal
		}
		problems = append(problems, err)
	}
	return nil, "", fmt.Errorf("%w: %w", ErrNotAllowed, errors.Join(problems...))
}

// errMount is that the child was not let mount; what it said stands behind it.
var errMount = errors.New("mount")

// refused says whether the system, or its settings, do not let us.
func refused(err error) bool {
	return errors.Is(err, errMount) || slices.ContainsFunc(
		[]error{syscall.EPERM, syscall.EACCES, syscall.ENOSYS, syscall.EINVAL, syscall.ENOSPC}, // the last: no more namespaces
		func(refusal error) bool { return errors.Is(err, refusal) })
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
	h.answer = bufio.NewReader(output)
	if line, err := h.answer.ReadString('\n'); err != nil || line != "done\n" {
		err = h.command.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 1 { // as the script says it
			return fmt.Errorf("%w: %w", errMount, err)
		}
		return fmt.Errorf("hold a disk: %w", err)
	}
	return nil
}

// resize gives the file system another size. It cannot be less than what is on it.
func (h *holder) resize(bytes int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := fmt.Fprintf(h.input, "%d\n", bytes); err != nil {
		return fmt.Errorf("ask for %d bytes: %w", bytes, err)
	}
	line, err := h.answer.ReadString('\n')
	if err == nil && line != "done\n" {
		err = fmt.Errorf("the size of %d bytes is %s", bytes, strings.TrimSpace(line))
	}
	return err
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

// usedBytes is what is on a file system, in whole blocks.
func usedBytes(dir string) (int64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Blocks-stat.Bfree) * stat.Bsize, nil
}
