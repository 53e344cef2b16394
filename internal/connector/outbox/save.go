package outbox

import (
	"context"
	"time"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Save makes a position durable. The reader numbers the saves, since the
// positions of several pages may be saved as one.
func (r *Reader) Save(ctx context.Context, p message.Position) error {
	fault.At(fault.ForwardBeforeSave)
	p.Sequence = r.saved + 1
	if err := r.store.SavePosition(ctx, r.owner, p); err != nil {
		return err
	}
	fault.At(fault.ForwardAfterSave)
	if fault.Mutant(fault.PositionInMemory) {
		r.kept = p
	}
	r.saved = p.Sequence
	r.saves++
	if r.saves%pruneEvery != 1 || r.saved-keepSaves < r.pruned {
		return nil
	}
	if err := r.store.PrunePositions(ctx, r.owner, r.pruned, r.saved-keepSaves); err != nil {
		return err
	}
	r.pruned = r.saved - keepSaves
	if time.Since(r.expired) < expireEvery {
		return nil
	}
	r.expired = time.Now()
	return r.store.ExpirePositions(ctx, r.owner, r.pruned)
}

// Marked returns the newest saved positions that have a mark; all when limit is 0.
func (r *Reader) Marked(ctx context.Context, limit int) ([]message.Saved, error) {
	return r.store.MarkedPositions(ctx, r.owner, limit)
}

// Rewind goes back to what was saved under that sequence, or to the oldest
// event retained, and starts reading there.
func (r *Reader) Rewind(ctx context.Context, sequence int64) error {
	if err := r.store.RewindPosition(ctx, r.owner, r.saved+1, sequence); err != nil {
		return err
	}
	return r.Open(ctx)
}
