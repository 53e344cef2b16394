package message

import "time"

// Position says how far a forward pipeline has durably got in its outbox.
// The engine carries it and never looks inside; catalog and connector/outbox
// give it its meaning:
//
// every event that Snapshot sees and whose id is at most LastID was delivered.
// Ids are drawn before commit and commits happen in another order, so the
// events at or below LastID which Snapshot did not see (stragglers) may still
// appear; Bound, an xid assigned after Snapshot was taken, ends the range of
// transactions that can hold one.
type Position struct {
	// Sequence numbers the saves of one pipeline, from 1; 0 when never saved.
	// A save with any other number than the last plus one is refused.
	Sequence int64
	// Snapshot is a pg_snapshot in text form, "xmin:xmax:xip,…".
	Snapshot string
	// LastID is the greatest outbox id delivered.
	LastID int64
	// Bound is an xid8 that was assigned after Snapshot was taken and LastID
	// was read: transactions from it on draw greater ids. 0 when not known.
	Bound uint64
	// FloorID is the greatest id that the database held when it was last
	// found to be another (restored, copied): stragglers lie above it, since
	// the xids of rows at or below it belong to another history.
	FloorID int64
	// DrainSnapshot and DrainID are set while more stragglers than fit a page
	// are being delivered: DrainSnapshot is what the whole round sees, and
	// the round's stragglers up to DrainID were delivered.
	DrainSnapshot string
	DrainID       int64
	// Incarnation is that of the database when the position was taken.
	Incarnation int
	// Mark is the sink's: by it the sink tells later whether it still has what
	// this position says was delivered. Empty when it cannot tell.
	Mark string
}

// Saved is a position that was saved at some time, as far as it matters for
// going back to it.
type Saved struct {
	Sequence int64
	Mark     string
	At       time.Time
}

// Mark is what the database of a reverse pipeline remembers of its source. The
// database may lose what it had, by a promotion or a restore; the source was
// told that it has it, and would not deliver it again. The engine carries the
// mark and never looks inside; connectors give it its meaning.
type Mark struct {
	// Origin names the source's log for ever: a stream that was deleted and
	// made again under the same name is another. Empty: nothing is remembered.
	Origin string
	// Sequence says that all of it up to there is durable in the database, as
	// far as the pipeline takes it in.
	Sequence uint64
	// Delivery is the source's own count of what it delivered, up to there.
	Delivery uint64
	// Places says the same of a source with several logs, each of which has
	// numbers of its own: JSON, as the source wrote it. Empty where there is one log.
	Places string
	// Moved says that the database was promoted, or restored to a point in
	// time, since this was saved: what came after may be lost. Not saved.
	Moved bool
	// Claim grows each time somebody adopts the pipeline: of two copies of a
	// database the one with the greater claim reads. Not saved.
	Claim int64
}
