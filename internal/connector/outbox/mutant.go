package outbox

import (
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

// What is here is wrong on purpose and not part of any binary without the tag
// tide_faults.

// narrowed leaves transactions out of those that late events are sought among.
func (r *Reader) narrowed(seen snapshot) snapshot {
	seen.xmax = r.position.Bound
	if fault.Mutant(fault.ReadByID) {
		seen.inProgress = nil
	}
	return seen
}

// cutLate ends a page in the middle of its late events.
func (r *Reader) cutLate(sorted []message.Message, limit int) int {
	late := 0
	for late < len(sorted) && sorted[late].OutboxID <= r.position.LastID {
		late++
	}
	if late < 2 {
		return limit
	}
	return min(limit, late/2)
}
