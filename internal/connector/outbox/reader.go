package outbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

const (
	// pageBytes bounds the payloads of a page, as stored: what a relay holds
	// must not depend on what others publish.
	pageBytes = 8 << 20
	// pruneEvery is how many saves pass before old ones are thinned out, and
	// keepSaves how many of the newest all stay; expireEvery is the time between
	// two removals of those that are too old for anything.
	pruneEvery  = 100
	keepSaves   = 10
	expireEvery = 10 * time.Minute
)

// Store is what a reader needs of the catalog.
type Store interface {
	LoadPosition(ctx context.Context, pipelineID, outboxID int64) (catalog.Start, error)
	SavePosition(ctx context.Context, owner catalog.Owner, p message.Position) error
	PrunePositions(ctx context.Context, owner catalog.Owner, from, until int64) error
	ExpirePositions(ctx context.Context, owner catalog.Owner, before int64) error
	MarkedPositions(ctx context.Context, owner catalog.Owner, limit int) ([]message.Saved, error)
	RewindPosition(ctx context.Context, owner catalog.Owner, sequence, back int64) error
	ReadPage(ctx context.Context, r catalog.PageRequest) (catalog.Page, error)
	ReadDrain(ctx context.Context, r catalog.PageRequest) (catalog.Page, error)
	Extents(ctx context.Context, parts string, xids []uint64, floorID int64, below bool, limit int) (map[uint64]catalog.Extent, error)
	StartDrain(ctx context.Context, r catalog.PageRequest, snapshot string, otherHistory bool) (string, []uint64, error)
}

// Napper makes naps: the wait between an empty page and the next look.
type Napper interface {
	Nap(outbox string) *catalog.Nap
}

// Reader reads one outbox for one pipeline. Open starts a session; Read and
// Save may then be called from two goroutines.
type Reader struct {
	store    Store
	napper   Napper
	owner    catalog.Owner
	outboxID int64

	start    catalog.Start
	position message.Position
	// size is that of the last page that was not empty.
	size catalog.Size
	// drain is the round of late events under way; nil when none is.
	drain *drain
	// whole keeps transactions whole; nil where each event goes by itself.
	whole *whole

	// saved is the sequence of the last save, pruned the first that may still
	// have to be removed. Only Open and Save touch them.
	saved, pruned, saves int64
	expired              time.Time
	// kept is the position saved last; only a mutation looks at it.
	kept message.Position

	// readPage is the store's; a test replaces it to see itself fail.
	readPage func(ctx context.Context, r catalog.PageRequest) (catalog.Page, error)
}

// drain is a round of late events: those of xids, which the round's snapshot
// saw and the position's did not.
type drain struct {
	xids []uint64
}

// New makes a reader for a pipeline that this relay has claimed.
func New(c *catalog.Catalog, spec pipeline.Spec) *Reader {
	return newReader(c, c.Gate(), spec)
}

func newReader(store Store, napper Napper, spec pipeline.Spec) *Reader {
	return &Reader{
		store:    store,
		napper:   napper,
		owner:    catalog.OwnerOf(spec),
		outboxID: spec.EndpointID,
		readPage: store.ReadPage,
	}
}

// Open forgets what is held in memory and reads the saved position again.
func (r *Reader) Open(ctx context.Context) error {
	start, err := r.store.LoadPosition(ctx, r.owner.PipelineID, r.outboxID)
	if err != nil {
		return err
	}
	r.start = start
	r.position = start.Position
	r.drain = nil
	if r.whole != nil {
		r.whole.reset(start.Position)
	}
	r.saved = start.Position.Sequence
	r.pruned = max(1, r.saved-pruneEvery-keepSaves)
	r.saves = 0
	if fault.Mutant(fault.PositionInMemory) && r.kept.Snapshot != "" {
		r.position = r.kept
	}
	fault.At(fault.ForwardOpened)
	return nil
}

// Read returns the next page and waits until there is one. What it returns
// was committed, and flushed, so that no crash takes it back.
func (r *Reader) Read(ctx context.Context, limit int) (message.Page, error) {
	look := r.look
	if r.whole != nil {
		look = r.lookWhole
	}
	page, err := look(ctx, limit)
	if err != nil || len(page.Messages) > 0 {
		return page, err
	}
	nap := r.napper.Nap(r.start.Outbox)
	defer nap.Close()
	for {
		if err := nap.Wait(ctx); err != nil {
			return message.Page{}, fmt.Errorf("wait for events: %w", err)
		}
		page, err := look(ctx, limit)
		if err != nil || len(page.Messages) > 0 {
			return page, err
		}
	}
}

// look returns the next page, or an empty one when there is none now.
func (r *Reader) look(ctx context.Context, limit int) (message.Page, error) {
	for {
		if r.position.DrainSnapshot != "" {
			page, err := r.lookDrain(ctx, limit)
			if err != nil || len(page.Messages) > 0 {
				return page, err
			}
		}
		request, err := r.request(limit)
		if err != nil {
			return message.Page{}, err
		}
		fault.At(fault.ForwardBeforeRead)
		found, err := r.readPage(ctx, request)
		switch {
		case err != nil:
			return message.Page{}, err
		case r.partsChanged(found):
		case found.Overflow:
			// More late events than fit: fix what the round sees and read them page by page.
			if err := r.startDrain(ctx, request, ""); err != nil {
				return message.Page{}, err
			}
		default:
			return r.advance(found, limit), nil
		}
	}
}

// partsChanged notices that the outbox has other partitions than were read.
func (r *Reader) partsChanged(found catalog.Page) bool {
	if found.Parts == r.start.Parts {
		return false
	}
	r.start.Parts = found.Parts
	return true
}

// request asks for what the position has not seen.
func (r *Reader) request(limit int) (catalog.PageRequest, error) {
	seen, err := parseSnapshot(r.position.Snapshot)
	if err != nil {
		return catalog.PageRequest{}, err
	}
	if fault.Mutant(fault.ReadByID) || fault.Mutant(fault.LateInListOnly) {
		seen = r.narrowed(seen)
	}
	return catalog.PageRequest{
		Owner:    r.owner,
		OutboxID: r.outboxID,
		Parts:    r.start.Parts,
		LateXIDs: seen.inProgress,
		XMax:     seen.xmax,
		Bound:    r.position.Bound,
		FloorID:  r.position.FloorID,
		LastID:   r.position.LastID,
		DrainID:  r.position.DrainID,
		Limit:    limit,
		Bytes:    pageBytes,
		Outbox:   r.start.Outbox,
		Source:   "/" + r.start.DatabaseID + "/" + r.start.Outbox,
		Expect:   r.size,
	}, nil
}

// advance puts the page in order and moves the position behind it. All late
// events are in it, so the new snapshot holds for every id up to the last;
// fresh ones may be cut off, since later ones are found by their id.
func (r *Reader) advance(found catalog.Page, limit int) message.Page {
	if len(found.Messages) == 0 {
		return message.Page{}
	}
	fault.At(fault.ForwardAfterRead)
	sortByID(found.Messages)
	if fault.Mutant(fault.CutLate) {
		limit = r.cutLate(found.Messages, limit)
	}
	r.size = found.Size
	messages := found.Messages
	if len(messages) > limit {
		messages = messages[:limit]
	}
	r.position = message.Position{
		Snapshot:    found.Snapshot,
		LastID:      max(r.position.LastID, messages[len(messages)-1].OutboxID),
		Bound:       found.Bound,
		FloorID:     r.floor(),
		Incarnation: r.start.Incarnation,
	}
	return message.Page{Messages: messages, Position: r.position}
}

// floor is the position's own, unless the database has become another since:
// then it is the database's, for the xids below belong to another history.
func (r *Reader) floor() int64 {
	if r.position.Incarnation != r.start.Incarnation {
		return r.start.FloorID
	}
	return r.position.FloorID
}

// startDrain finds the transactions of a round. fixed is the round's snapshot
// when it began in an earlier session.
func (r *Reader) startDrain(ctx context.Context, request catalog.PageRequest, fixed string) error {
	fault.At(fault.ForwardBeforeDrain)
	otherHistory := r.position.Incarnation != r.start.Incarnation
	if otherHistory {
		// What it saw is not comparable; and nothing of that history can still
		// appear. What committed after it, below where the round had got to, is
		// found only by beginning again.
		fixed = ""
		r.position.DrainID = 0
	}
	sees, xids, err := r.store.StartDrain(ctx, request, fixed, otherHistory)
	if err != nil {
		return err
	}
	r.position.DrainSnapshot = sees
	r.drain = &drain{xids: xids}
	return nil
}

// lookDrain returns the next page of the round, or an empty one after its
// last: then the position is what the round saw.
func (r *Reader) lookDrain(ctx context.Context, limit int) (message.Page, error) {
	for {
		request, err := r.request(limit)
		if err != nil {
			return message.Page{}, err
		}
		if r.drain == nil {
			if err := r.startDrain(ctx, request, r.position.DrainSnapshot); err != nil {
				return message.Page{}, err
			}
		}
		request.LateXIDs, request.DrainID = r.drain.xids, r.position.DrainID
		found, err := r.store.ReadDrain(ctx, request)
		if err != nil {
			return message.Page{}, err
		}
		if r.partsChanged(found) {
			continue
		}
		return r.advanceDrain(found), nil
	}
}

// advanceDrain moves the position within the round, or ends it. The bound
// stays: the last id does, and transactions from the bound on draw greater ones.
func (r *Reader) advanceDrain(found catalog.Page) message.Page {
	if len(found.Messages) > 0 {
		sortByID(found.Messages)
		r.position.DrainID = found.Messages[len(found.Messages)-1].OutboxID
		return message.Page{Messages: found.Messages, Position: r.position}
	}
	r.position = message.Position{
		Snapshot:    r.position.DrainSnapshot,
		LastID:      r.position.LastID,
		Bound:       r.position.Bound,
		FloorID:     r.floor(),
		Incarnation: r.start.Incarnation,
	}
	r.drain = nil
	fault.At(fault.ForwardAfterDrain)
	return message.Page{}
}

// sortByID restores the order of publishing: late events come as their index
// has them. An event whose transaction had committed when a later one of its
// key was published has the lower id.
func sortByID(messages []message.Message) {
	slices.SortFunc(messages, func(a, b message.Message) int {
		switch {
		case a.OutboxID < b.OutboxID:
			return -1
		case a.OutboxID > b.OutboxID:
			return 1
		}
		return 0
	})
}
