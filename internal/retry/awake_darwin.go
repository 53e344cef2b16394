package retry

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot reads the one that counts while the machine sleeps; Go's does not.
func sinceBoot() (time.Duration, bool) { return read(unix.CLOCK_MONOTONIC) }
