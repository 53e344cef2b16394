//go:build unix

package stdio

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// withInterrupts makes the reads of a file end when they are told to. The file
// is polled beside a pipe of our own: a deadline needs it to be non-blocking,
// which it would then be for all processes that have it open, and for those
// that read it after us.
func withInterrupts(from io.Reader) io.Reader {
	file, is := from.(*os.File)
	if !is {
		return from
	}
	return &polled{file: file}
}

// polled is a file whose reads wait for it or for an interruption.
type polled struct {
	file *os.File
	once sync.Once
	// woken is readable while there is an interruption.
	woken, wake *os.File
	err         error
}

func (p *polled) prepare() error {
	p.once.Do(func() { p.woken, p.wake, p.err = os.Pipe() })
	return p.err
}

// Read waits for the file and reads what it has.
func (p *polled) Read(buffer []byte) (int, error) {
	if err := p.prepare(); err != nil {
		return 0, err
	}
	interrupted, err := p.wait()
	switch {
	case err != nil:
		return 0, err
	case interrupted:
		return 0, errInterrupted
	}
	return p.file.Read(buffer)
}

// wait returns when something can be read: data, an end, or an error.
func (p *polled) wait() (interrupted bool, err error) {
	file, err := descriptor(p.file)
	if err != nil {
		return false, err
	}
	woken, err := descriptor(p.woken)
	if err != nil {
		return false, err
	}
	both := []unix.PollFd{{Fd: file, Events: unix.POLLIN}, {Fd: woken, Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(both, -1)
		if !errors.Is(err, unix.EINTR) {
			return both[1].Revents != 0, err
		}
	}
}

// descriptor is that of a file, whose mode stays what it is.
func descriptor(file *os.File) (fd int32, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(number uintptr) { fd = int32(number) }) //nolint:gosec // a descriptor fits an int32
	return fd, err
}

// Interrupt ends the read that waits, or the next.
func (p *polled) Interrupt() {
	if p.prepare() == nil {
		_, _ = p.wake.Write([]byte{0}) // a pipe of our own that is empty
	}
}

// Resume takes the interruption back.
func (p *polled) Resume() {
	if p.prepare() == nil {
		_, _ = p.woken.Read(make([]byte, 1)) // it is there
	}
}
