package outbox

import (
	"fmt"
	"strconv"
	"strings"
)

// snapshot is a pg_snapshot: transactions below xmin are completed, those from
// xmax on had not begun or not completed, and of those between the ones in
// progress are listed.
type snapshot struct {
	xmin, xmax uint64
	inProgress []uint64
}

// parseSnapshot reads "xmin:xmax:xip,xip,…".
func parseSnapshot(text string) (snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return snapshot{}, fmt.Errorf("%q is not a snapshot", text)
	}
	var s snapshot
	var err error
	if s.xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return snapshot{}, fmt.Errorf("read snapshot %q: %w", text, err)
	}
	if s.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return snapshot{}, fmt.Errorf("read snapshot %q: %w", text, err)
	}
	if parts[2] == "" {
		return s, nil
	}
	for _, x := range strings.Split(parts[2], ",") {
		xid, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return snapshot{}, fmt.Errorf("read snapshot %q: %w", text, err)
		}
		s.inProgress = append(s.inProgress, xid)
	}
	return s, nil
}
