package stdio

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// fileMode is that of a file that is made: events are not for everybody.
const fileMode = 0o640

// File appends to a file, and acknowledges what is on the disk.
type File struct {
	path   string
	writer *writer

	mu   sync.Mutex
	open bool
	// file is nil until it is written to. Only the writer touches it.
	file *os.File
}

// NewFile makes a sink that appends to the file at path. It opens nothing.
func NewFile(values Values) (*File, error) {
	path, err := readPath(values)
	return &File{path: path, writer: newWriter()}, err
}

// Open opens the file, makes it when it is missing, and mends its last line
// when a crash tore it.
func (f *File) Open(ctx context.Context) error {
	err := f.writer.do(ctx, func() error {
		f.drop()
		return f.reach()
	})
	f.mu.Lock()
	f.open = err == nil
	f.mu.Unlock()
	return err
}

// Close closes the file; it may be called twice, or before Open.
func (f *File) Close(ctx context.Context) error {
	f.mu.Lock()
	f.open = false
	f.mu.Unlock()
	return f.writer.do(ctx, func() error {
		f.drop()
		return nil
	})
}

// Send appends the events and returns when they are on the disk. A file that
// was moved away, as rotation does, is left, and another made in its place.
func (f *File) Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	f.mu.Lock()
	open := f.open
	f.mu.Unlock()
	if !open {
		return nil, fmt.Errorf("write to %s before the sink was opened", f.path)
	}
	text, err := lines(envelopes)
	if err != nil {
		return nil, err
	}
	if err := f.writer.do(ctx, func() error { return f.append(text) }); err != nil {
		return nil, err
	}
	return written{}, nil
}

// append writes lines whole or not at all: what is not on the disk is cut off again.
func (f *File) append(text []byte) error {
	if f.file != nil && !f.isInPlace() {
		f.drop()
	}
	if f.file == nil {
		if err := f.reach(); err != nil {
			return err
		}
	}
	before, err := f.file.Stat()
	if err == nil {
		if _, err = f.file.Write(text); err == nil {
			err = f.file.Sync()
		}
		if err != nil {
			_ = f.file.Truncate(before.Size()) // what stays is mended when the file is opened
		}
	}
	if err != nil {
		f.drop()
		return explain(f.path, "write to", err)
	}
	return nil
}

func (f *File) isInPlace() bool {
	ours, err := f.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.path)
	return err == nil && os.SameFile(ours, there)
}

// reach opens the file for this sink alone.
func (f *File) reach() error {
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return explain(f.path, "open", err)
	}
	if err := f.prepare(file); err != nil {
		_ = file.Close() // nothing was written
		return err
	}
	f.file = file
	return nil
}

func (f *File) prepare(file *os.File) error {
	about, err := file.Stat()
	if err != nil {
		return explain(f.path, "look at", err)
	}
	if !about.Mode().IsRegular() {
		return delivery.Misconfigured(fmt.Errorf("%s is no regular file; name one, or a path where there is none yet", f.path))
	}
	// Another writer's unfinished line would look torn, and be cut off.
	if err := lock(file); err != nil {
		return fmt.Errorf("%s is written to by another pipeline or relay: %w", f.path, err)
	}
	if err := mend(file, about.Size()); err != nil {
		return explain(f.path, "mend", err)
	}
	// A new file's name has to survive a crash as well.
	if err := syncFolder(filepath.Dir(f.path)); err != nil {
		return explain(f.path, "make", err)
	}
	return nil
}

func (f *File) drop() {
	if f.file != nil {
		_ = f.file.Close() // all that counts was synced
		f.file = nil
	}
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	err = folder.Sync()
	return errors.Join(err, folder.Close())
}

// explain says what is wrong with the file, and what only a person can mend.
func explain(path, doing string, err error) error {
	var at *fs.PathError
	cause := err
	if errors.As(err, &at) {
		cause = at.Err
	}
	err = fmt.Errorf("%s the file %s: %w", doing, path, cause)
	switch {
	case errors.Is(cause, fs.ErrPermission):
		return delivery.Misconfigured(fmt.Errorf("%w (hint: the relay's user must be able to write there)", err))
	case errors.Is(cause, fs.ErrNotExist):
		return delivery.Misconfigured(fmt.Errorf("%w (hint: make the folder %s)", err, filepath.Dir(path)))
	}
	return err
}
