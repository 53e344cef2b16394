package conformance

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// label marks the goroutines of one piece of work.
const label = "conformance"

// LeavesNoGoroutine fails t when work has returned and a goroutine that it
// started lives on. Goroutines inherit their maker's labels, so that those of
// other tests, which run at the same time, are not taken for ours.
func LeavesNoGoroutine(ctx context.Context, t testing.TB, work func(ctx context.Context)) {
	t.Helper()
	mark := fmt.Sprintf("%s-%p", t.Name(), new(int))
	pprof.Do(ctx, pprof.Labels(label, mark), work)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := labelled(mark)
		if left == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("goroutines are left:\n%s", left)
		}
	}
}

// labelled returns the stacks of the goroutines with that mark.
func labelled(mark string) string {
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return err.Error()
	}
	var left []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", label, mark)) {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}
