package world

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Used is the processor time and the resident memory of a process, as Linux
// tells; nothing elsewhere.
func Used(pid int) (time.Duration, int64) {
	const tick = 10 * time.Millisecond
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var numbers [3]int64 // utime, stime, resident pages
	for i, place := range []int{11, 12, 21} {
		if numbers[i], err = strconv.ParseInt(fields[place], 10, 64); err != nil {
			return 0, 0
		}
	}
	return time.Duration(numbers[0]+numbers[1]) * tick, numbers[2] * int64(os.Getpagesize())
}

// HoldOpen begins a transaction that writes, and leaves it open until the
// returned function is called.
func HoldOpen(ctx context.Context, dsn, sql string) (end func(), err error) {
	conn, err := ConnectTo(ctx, dsn)
	if err != nil {
		return nil, err
	}
	end = func() { _ = conn.Close(context.WithoutCancel(ctx)) } // the database goes as well
	for _, statement := range []string{"begin", "select pg_current_xact_id()", sql} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			end()
			return nil, fmt.Errorf("hold a transaction open: %w", err)
		}
	}
	return end, nil
}
