//go:build tide_clock

package fault

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// FollowClock sets the wall clock of this process as many seconds off as the
// file says that PG_TIDE_CLOCK_FILE names, and again when it says otherwise,
// for as long as the process lives. The file need not be there.
func FollowClock() {
	path := os.Getenv("PG_TIDE_CLOCK_FILE")
	if path == "" {
		return
	}
	var now int64
	look := func() {
		text, err := os.ReadFile(path)
		if err != nil {
			return
		}
		seconds, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil || seconds == now {
			return // it is being written, or says nothing new
		}
		now = seconds
		time.SetWallOffset(seconds)
		fmt.Fprintf(os.Stderr, "pg-tide clock: the wall clock is off by %d s\n", seconds)
	}
	look()
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			look()
		}
	}()
}
