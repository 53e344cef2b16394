// Package inbox is the near end of a reverse pipeline: it makes messages
// durable in an inbox. It refuses to acknowledge anything.
package inbox

import (
	"context"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// Store is what an inbox needs of the catalog.
type Store interface {
	InsertInbox(ctx context.Context, to catalog.InboxTarget, messages []message.Message) (int, error)
	InsertInboxMarked(ctx context.Context, to catalog.InboxTarget, messages []message.Message, number int64, mark message.Mark) (int, error)
	LoadMark(ctx context.Context, pipelineID int64) (mark message.Mark, number int64, err error)
	SaveMark(ctx context.Context, owner catalog.Owner, number int64, mark message.Mark) error
}

// Inbox inserts into one inbox for one pipeline.
type Inbox struct {
	store  Store
	target catalog.InboxTarget
	// marks counts the saves of marks. Only Mark, SaveMark and InsertMarked touch
	// it, which the engine calls one after another.
	marks int64
}

// New makes the inbox of a pipeline that this relay has claimed.
func New(store Store, spec pipeline.Spec) *Inbox {
	return &Inbox{store: store, target: catalog.InboxTarget{
		Owner:   catalog.OwnerOf(spec),
		InboxID: spec.EndpointID,
		Inbox:   spec.Endpoint,
		Repeats: &catalog.Repeats{},
	}}
}

// Insert makes messages durable in one transaction, in order, and returns how
// many were new. It fails with *delivery.Partial, nothing inserted, naming
// those that can never be inserted, and with the verdict superseded when
// another relay owns the pipeline.
func (i *Inbox) Insert(ctx context.Context, messages []message.Message) (int, error) {
	return i.store.InsertInbox(ctx, i.target, messages)
}

// InsertMarked is Insert that saves mark in the same transaction, as SaveMark
// does in one of its own.
func (i *Inbox) InsertMarked(ctx context.Context, messages []message.Message, mark message.Mark) (int, error) {
	added, err := i.store.InsertInboxMarked(ctx, i.target, messages, i.marks+1, mark)
	if err == nil {
		i.marks++
	}
	return added, err
}

// Mark returns how far the source was durably taken in. A session starts with
// it, and what was not acknowledged in the one before comes again.
func (i *Inbox) Mark(ctx context.Context) (mark message.Mark, err error) {
	i.target.Repeats.Expect()
	mark, i.marks, err = i.store.LoadMark(ctx, i.target.Owner.PipelineID)
	return mark, err
}

// SaveMark makes a mark durable, as the next after the last that this session
// read or saved. It fails with the verdict superseded when another relay owns
// the pipeline.
func (i *Inbox) SaveMark(ctx context.Context, mark message.Mark) error {
	if err := i.store.SaveMark(ctx, i.target.Owner, i.marks+1, mark); err != nil {
		return err
	}
	i.marks++
	return nil
}
