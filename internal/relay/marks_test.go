package relay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// markingInbox remembers marks, and loses what comes after one when told to.
type markingInbox struct {
	*fakeInbox
	mark  message.Mark
	saves int
	back  int // saves of less than was remembered
	fails error
}

func (i *markingInbox) Mark(context.Context) (message.Mark, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.mark, i.fails
}

func (i *markingInbox) SaveMark(_ context.Context, mark message.Mark) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.remember(mark)
	i.saves++
	return nil
}

func (i *markingInbox) remember(mark message.Mark) {
	if mark.Sequence < i.mark.Sequence {
		i.back++
	}
	i.mark = mark
}

// boundInbox remembers marks with the messages that they stand for.
type boundInbox struct {
	*markingInbox
	bound int
}

func (i *boundInbox) InsertMarked(ctx context.Context, messages []message.Message, mark message.Mark) (int, error) {
	n, err := i.Insert(ctx, messages)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err == nil {
		i.remember(mark)
		i.bound++
	}
	return n, err
}

func (i *markingInbox) remembered() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.mark.Sequence
}

// markedSource numbers its messages, and goes back to where the inbox is.
type markedSource struct {
	*fakeSource
	from message.Mark
}

func (s *markedSource) ResumeFrom(mark message.Mark) { s.from = mark }

func (s *markedSource) Open(ctx context.Context) error {
	if s.from.Origin != "" {
		s.mu.Lock()
		s.acked = min(s.acked, int(s.from.Sequence))
		s.mu.Unlock()
	}
	return s.fakeSource.Open(ctx)
}

func (s *markedSource) Fetch(ctx context.Context, limit int) (message.Delivery, error) {
	d, err := s.fakeSource.Fetch(ctx, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	d.Mark = message.Mark{Origin: "fake", Sequence: uint64(s.next)}
	return d, err
}

// marked is a way back whose ends know marks.
func marked(t testing.TB, w *wayBack) (*markedSource, *markingInbox, func()) {
	source, inbox := &markedSource{fakeSource: w.source}, &markingInbox{fakeInbox: w.inbox}
	_, stop := start(t, w.registry, func(spec pipeline.Spec) (Plan, error) {
		return Plan{Spec: spec, Limits: w.limits, Codec: fakeCodec{}, Changes: w.changes, DeadLetters: w.letters,
			Source: source, Inbox: inbox}, nil
	}, w.options)
	return source, inbox, stop
}

func TestTheSourceIsNeverToldMoreThanTheDatabaseRemembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(60)
		all[30].Payload = []byte("bad bytes") // a letter counts as durable
		w := newWayBack(all)
		w.changes = []Change{changeFunc(func(m *message.Message) (bool, error) { return m.EventID > "e4", nil })}
		var inbox *markingInbox
		told := false
		w.source.checks = func(upTo int) {
			if got := inbox.remembered(); got < uint64(upTo) {
				t.Errorf("told of %d with %d remembered", upTo, got)
			}
			told = true
		}
		hold := make(chan struct{})
		w.source.ackFail = func() error { <-hold; return nil }
		_, inbox, stop := marked(t, w)
		close(hold)
		defer stop()
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 60 })
		if !told || inbox.remembered() != 60 {
			t.Errorf("remembered %d", inbox.remembered())
		}
	})
}

// TestAMarkIsSavedWithItsMessagesUnlessSomeAreElsewhere: what is put aside or
// left out is not in the transaction of the insert, so its mark comes by itself,
// and never behind that of a later fetch.
func TestAMarkIsSavedWithItsMessagesUnlessSomeAreElsewhere(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			all := events(200, "a", "b", "c")
			all[30].Payload = []byte("bad bytes")
			w := newWayBack(all)
			w.limits.Lanes = lanes
			w.inbox.fails = never("e77")
			w.inbox.slow = []int{1, 5, 2}
			w.changes = []Change{changeFunc(func(m *message.Message) (bool, error) {
				var n int
				_, err := fmt.Sscanf(m.EventID, "e%d", &n)
				return n <= 100 || n > 120, err
			})}
			inbox := &boundInbox{markingInbox: &markingInbox{fakeInbox: w.inbox}}
			w.source.checks = func(upTo int) {
				if got := inbox.remembered(); got < uint64(upTo) {
					t.Errorf("%d lanes: told of %d with %d remembered", lanes, upTo, got)
				}
			}
			_, stop := start(t, w.registry, func(spec pipeline.Spec) (Plan, error) {
				return Plan{Spec: spec, Limits: w.limits, Codec: fakeCodec{}, Changes: w.changes, DeadLetters: w.letters,
					Source: &markedSource{fakeSource: w.source}, Inbox: inbox}, nil
			}, w.options)
			await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 200 })
			stop()
			if inbox.remembered() != 200 || inbox.back > 0 {
				t.Errorf("%d lanes: %d remembered, %d saves went back", lanes, inbox.remembered(), inbox.back)
			}
			if one := lanes == 1; (inbox.bound > 0) != one || inbox.saves == 0 {
				t.Errorf("%d lanes: %d marks with their messages, %d by themselves", lanes, inbox.bound, inbox.saves)
			}
		})
	}
}

func TestASessionBeginsAtWhatTheDatabaseRemembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := events(60)
		w := newWayBack(all)
		w.source.acked = 40 // the source was told; the database went back
		source, inbox := &markedSource{fakeSource: w.source}, &markingInbox{fakeInbox: w.inbox, mark: message.Mark{Origin: "fake", Sequence: 20}}
		inbox.fails = errors.New("the database is away")
		_, stop := start(t, w.registry, func(spec pipeline.Spec) (Plan, error) {
			return Plan{Spec: spec, Limits: w.limits, Codec: fakeCodec{}, DeadLetters: w.letters, Source: source, Inbox: inbox}, nil
		}, w.options)
		defer stop()
		await(t, "the reason", func() bool { return w.registry.report(1).State == pipeline.StateWaiting })
		inbox.mu.Lock()
		inbox.fails = nil
		inbox.mu.Unlock()
		await(t, "the last acknowledgement", func() bool { return w.source.acknowledged() == 60 })
		equal(t, "inserted", w.inbox.all(), ids(all[20:]))
	})
}
