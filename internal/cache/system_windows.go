package cache

import (
	"errors"
	"os"
)

// errUnsupported is all that this package says on Windows.
var errUnsupported = errors.New("what is fetched can be kept on Unix systems alone")

// TryLock would take the file's lock.
func TryLock(*os.File) (bool, error) { return false, errUnsupported }

func ownedByUs(string) error { return errUnsupported }
