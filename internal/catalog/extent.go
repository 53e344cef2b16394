package catalog

import (
	"context"
	"math"

	"github.com/jackc/pgx/v5"
)

// Extent is how far a transaction reaches in one outbox.
type Extent struct {
	XID uint64
	// Events is the number that it published, or one more than was to be counted.
	Events int
	// FirstID and LastID are its least and greatest id in the outbox, as far
	// as was counted; Bytes is what was counted as it is stored.
	FirstID, LastID int64
	Bytes           int64
}

// Extents says how far transactions reach, those at or below the floor or those
// above it: their xids belong to different histories of the database. At most
// limit events and one are counted of each.
func (c *Catalog) Extents(ctx context.Context, parts string, xids []uint64, floorID int64, below bool, limit int) (map[uint64]Extent, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	from, to := floorID, int64(math.MaxInt64)
	if below {
		from, to = 0, floorID
	}
	found := make(map[uint64]Extent, len(xids))
	batch := &pgx.Batch{}
	batch.Queue(pageSettingsSQL)
	batch.Queue(pageQuery(transactionExtentSQL, parts), xids, from, to, limit).Query(func(rows pgx.Rows) error {
		var e Extent
		_, err := pgx.ForEachRow(rows, []any{&e.XID, &e.Events, &e.FirstID, &e.LastID, &e.Bytes}, func() error {
			found[e.XID] = e
			return nil
		})
		return err
	})
	if err := c.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, c.explain("look how far transactions reach", err)
	}
	return found, nil
}
