package relay

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// keptOutbox remembers the positions that were saved, with their marks.
type keptOutbox struct {
	*fakeOutbox
	kept    sync.Mutex
	history []message.Position
	rewound []int64
}

func (o *keptOutbox) Save(ctx context.Context, p message.Position) error {
	if err := o.fakeOutbox.Save(ctx, p); err != nil {
		return err
	}
	o.kept.Lock()
	defer o.kept.Unlock()
	p.Sequence = int64(len(o.history) + 1)
	o.history = append(o.history, p)
	return nil
}

func (o *keptOutbox) Marked(_ context.Context, limit int) (saved []message.Saved, _ error) {
	o.kept.Lock()
	defer o.kept.Unlock()
	for _, p := range slices.Backward(o.history) {
		if p.Mark != "" && (limit == 0 || len(saved) < limit) {
			saved = append(saved, message.Saved{Sequence: p.Sequence, Mark: p.Mark})
		}
	}
	return saved, nil
}

func (o *keptOutbox) Rewind(ctx context.Context, sequence int64) error {
	o.kept.Lock()
	defer o.kept.Unlock()
	o.rewound = append(o.rewound, sequence)
	o.history = o.history[:sequence]
	last := int64(0)
	if sequence > 0 {
		last = o.history[sequence-1].LastID
	}
	o.mu.Lock()
	o.saved = int(last)
	o.mu.Unlock()
	return o.Open(ctx)
}

func (o *keptOutbox) wentBack() bool {
	o.kept.Lock()
	defer o.kept.Unlock()
	return len(o.rewound) > 0
}

// losingSink can lose the end of what it has; its mark is how much it had.
type losingSink struct{ *fakeSink }

func (s losingSink) Mark() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.Itoa(len(s.stored))
}

func (s losingSink) Prove(_ context.Context, mark string) (delivery.Proof, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had, err := strconv.Atoi(mark)
	if err != nil {
		return delivery.Proof{}, nil
	}
	if had > len(s.stored) {
		return delivery.Proof{Lost: fmt.Sprintf("the sink has %d of %d", len(s.stored), had)}, nil
	}
	return delivery.Proof{Holds: true}, nil
}

func TestWhatTheSinkLostIsSentAgainFromTheNewestMarkThatHolds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ left, want int }{{35, 3}, {30, 3}, {29, 2}, {10, 1}, {9, 0}, {0, 0}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFlow(events(50))
			sink, outbox := losingSink{f.sink}, &keptOutbox{fakeOutbox: f.outbox}
			// The fourth has another sink's mark, which tells nothing.
			for n, mark := range []string{"10", "20", "30", "elsewhere", "50"} {
				if err := outbox.Save(t.Context(), message.Position{LastID: int64(10 * (n + 1)), Mark: mark}); err != nil {
					t.Fatal(err)
				}
			}
			sink.stored = ids(events(50))[:c.left]
			stop := startRefill(t, f, outbox, sink)
			defer stop()
			await(t, "all of it", func() bool { return outbox.position() == 50 && len(firsts(sink.all())) == 50 })
			equal(t, "the events", firsts(sink.all()), ids(events(50)))
			if !slices.Equal(outbox.rewound, []int64{int64(c.want)}) {
				t.Errorf("with %d left it went back to %v, want %d once", c.left, outbox.rewound, c.want)
			}
			await(t, "the report", func() bool { return f.registry.report(1).State == pipeline.StateRunning })
			said := f.registry.report(1).LastError
			if !strings.Contains(said, fmt.Sprintf("the sink has %d of 50", c.left)) || !strings.Contains(said, "sent again") {
				t.Errorf("the status says %q", said)
			}
		})
	}
}

func TestNothingIsConcludedWithoutAMark(t *testing.T) {
	t.Parallel()
	for _, mark := range []string{"", "elsewhere"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFlow(events(20))
			sink, outbox := losingSink{f.sink}, &keptOutbox{fakeOutbox: f.outbox}
			if err := outbox.Save(t.Context(), message.Position{LastID: 10, Mark: mark}); err != nil {
				t.Fatal(err)
			}
			stop := startRefill(t, f, outbox, sink)
			defer stop()
			await(t, "the rest", func() bool { return outbox.position() == 20 })
			stop() // the history is written behind the position
			equal(t, "stored", sink.all(), ids(events(20))[10:])
			await(t, "the sink's mark with the position", func() bool {
				newest, err := outbox.Marked(t.Context(), 1)
				return err == nil && len(newest) == 1 && newest[0].Mark == "10"
			})
			if outbox.wentBack() {
				t.Error("went back")
			}
		})
	}
}

func startRefill(t testing.TB, f *flow, outbox Reader, sink Sink) func() {
	_, stop := start(t, f.registry, func(spec pipeline.Spec) (Plan, error) {
		return Plan{Spec: spec, Limits: f.limits, Codec: fakeCodec{}, DeadLetters: f.letters, Reader: outbox, Sink: sink}, nil
	}, f.options)
	return stop
}

// watchedSink says that its connection is lost although nothing is sent.
type watchedSink struct {
	*fakeSink
	cut chan struct{}
}

func (s watchedSink) Watch(ctx context.Context) error {
	select {
	case <-s.cut:
		return errAway
	case <-ctx.Done():
		return nil
	}
}

func TestAnIdlePipelineNoticesThatItsConnectionIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(nil)
		sink := watchedSink{f.sink, make(chan struct{})}
		stop := startRefill(t, f, f.outbox, sink)
		defer stop()
		await(t, "the start", func() bool { return f.registry.report(1).State == pipeline.StateRunning })
		sink.cut <- struct{}{}
		await(t, "the next session", func() bool {
			sink.mu.Lock()
			defer sink.mu.Unlock()
			return sink.open == 2
		})
		await(t, "the reason in the status", func() bool {
			return strings.Contains(f.registry.report(1).LastError, errAway.Error())
		})
	})
}
