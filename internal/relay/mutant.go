package relay

import (
	"context"

	"github.com/pg-tide/pg-tide/internal/message"
)

// What is here is wrong on purpose and not part of any binary without the tag
// tide_faults.

// acknowledgeEarly does for a delivery, before it is inserted, all that follows
// its insert. What the database remembers of the source goes with the
// acknowledgement: it alone would bring back what is lost here.
func (r *reverse) acknowledgeEarly(ctx context.Context, d *message.Delivery, number uint64) error {
	if err := r.remember(ctx, fetch{*d, number}); err != nil {
		return err
	}
	if d.Acknowledge != nil {
		if err := r.call(ctx, farEnd, "acknowledge to the source", d.Acknowledge); err != nil {
			return err
		}
	}
	d.Mark, d.Acknowledge = message.Mark{}, nil
	return nil
}
