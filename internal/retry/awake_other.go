//go:build !linux && !darwin && !windows

package retry

import "time"

func sinceBoot() (time.Duration, bool) { return 0, false }
