package relay

import (
	"context"

	"github.com/pg-tide/pg-tide/internal/message"
)

// memo is what the database remembers of a source, as far as this session
// saved it.
type memo struct {
	marker Marker // nil when the inbox remembers nothing
	// inserter is set when marks can be saved with the messages they stand
	// for, which takes one lane: what another lane has before a mark may not
	// be durable when this one commits.
	inserter MarkedInserter

	// turn makes saves one after another, and number is that of the last fetch
	// whose mark was saved. Without them: fetch 1 holds a dead letter, so its
	// mark waits for the acknowledger. Fetch 2 is inserted with its mark. The
	// acknowledger saves the mark of 1 as the newer one and acknowledges both;
	// after a restart the source knows more than the database remembers, as if
	// the database had been restored.
	turn   chan struct{}
	number uint64
}

func newMemo(plan *Plan) *memo {
	m := &memo{turn: make(chan struct{}, 1)}
	m.marker, _ = plan.Inbox.(Marker)
	if plan.Limits.Lanes <= 1 {
		m.inserter, _ = plan.Inbox.(MarkedInserter)
	}
	return m
}

// withInsert says whether the mark of a fetch can be saved with its messages.
func (m *memo) withInsert(f *fetch) bool { return m.inserter != nil && f.Mark.Origin != "" }

func (m *memo) take(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *memo) leave() { <-m.turn }

func (m *memo) insert(ctx context.Context, messages []message.Message, end *fetch) (inserted int, err error) {
	if err := m.take(ctx); err != nil {
		return 0, err
	}
	defer m.leave()
	inserted, err = m.inserter.InsertMarked(ctx, messages, end.Mark)
	if err == nil {
		m.number = end.number
	}
	return inserted, err
}

func (m *memo) save(ctx context.Context, f *fetch) error {
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.leave()
	if f.number <= m.number {
		return nil
	}
	err := m.marker.SaveMark(ctx, f.Mark)
	if err == nil {
		m.number = f.number
	}
	return err
}

// resume tells the source what the database remembers of it.
func (r *reverse) resume(ctx context.Context) error {
	resumer, resumes := r.plan.Source.(Resumer)
	if r.memo.marker == nil || !resumes {
		return nil
	}
	return r.call(ctx, database, "read how far the source was taken in", func(ctx context.Context) error {
		mark, err := r.memo.marker.Mark(ctx)
		if err == nil {
			resumer.ResumeFrom(mark)
		}
		return err
	})
}

// remember saves how far the source is taken in, unless that was done with the
// messages. It comes after the commit of what the mark stands for, and before
// the acknowledgement: the source is never told more than the database
// remembers, so a source that knows more proves that the database has lost
// something.
func (r *reverse) remember(ctx context.Context, f fetch) error {
	if r.memo.marker == nil || f.Mark.Origin == "" {
		return nil
	}
	return r.call(ctx, database, "save how far the source was taken in", func(ctx context.Context) error {
		return r.memo.save(ctx, &f)
	})
}
