package retry

import (
	"time"

	"golang.org/x/sys/unix"
)

func sinceBoot() (time.Duration, bool) { return read(unix.CLOCK_BOOTTIME) }
