//go:build linux || darwin

package retry

import (
	"time"

	"golang.org/x/sys/unix"
)

func read(clock int32) (time.Duration, bool) {
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil {
		return 0, false
	}
	return time.Duration(now.Nano()), true
}
