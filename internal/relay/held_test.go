package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// holdingSink posts one event after the other, and holds those of a key behind
// a refused one until its receipt has told of it.
type holdingSink struct {
	mu      sync.Mutex
	opens   int
	stored  []message.Envelope
	stopped map[string]*holdingReceipt
	// refuses counts how often an event will be refused.
	refuses map[string]int
}

type holdingReceipt struct {
	sink   *holdingSink
	ready  chan struct{}
	failed map[int]error
}

func (s *holdingSink) Open(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	s.stopped = map[string]*holdingReceipt{}
	return nil
}

func (s *holdingSink) Close(context.Context) error { return nil }

func (s *holdingSink) Send(_ context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &holdingReceipt{sink: s, ready: make(chan struct{}), failed: map[int]error{}}
	for i, e := range envelopes {
		switch {
		case s.stopped[e.Key] != nil:
			r.failed[i] = delivery.Held(errors.New("behind a refused one"))
		case s.refuses[e.EventID] > 0:
			s.refuses[e.EventID]--
			s.stopped[e.Key] = r
			r.failed[i] = delivery.Reject(errors.New("refused"))
		default:
			s.stored = append(s.stored, e)
		}
	}
	close(r.ready)
	return r, nil
}

func (r *holdingReceipt) Ready() <-chan struct{} { return r.ready }

func (r *holdingReceipt) Wait(context.Context) error {
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	for key, by := range r.sink.stopped {
		if by == r {
			delete(r.sink.stopped, key)
		}
	}
	if len(r.failed) > 0 {
		return &delivery.Partial{Failed: r.failed}
	}
	return nil
}

func (s *holdingSink) ofKey(key string) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.stored {
		if e.Key == key {
			ids = append(ids, e.EventID)
		}
	}
	return ids
}

// Events that a sink held behind a refused one are neither refused themselves
// nor sent before it: they follow once it is taken, or set aside, within the
// same session.
func TestHeldEventsFollowTheRefusedOne(t *testing.T) {
	t.Parallel()
	for _, policy := range []pipeline.Policy{pipeline.DeadLetter, pipeline.ParkKey} {
		for _, lanes := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s with %d lanes", policy, lanes), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					all := events(300, "a", "b", "c", "d")
					// of key b: one that is taken in the end, and one that never is
					refuses := map[string]int{"e6": 3, "e102": 1000}
					letters := newLetters()
					var sinks []*holdingSink
					for range lanes {
						sinks = append(sinks, &holdingSink{refuses: maps.Clone(refuses)})
					}
					registry := newRegistry(pipeline.Spec{ID: 1, Name: "p", Direction: pipeline.Forward, Version: 1, Fence: 1})
					outbox := newOutbox(all)
					_, stop := start(t, registry, func(spec pipeline.Spec) (Plan, error) {
						plan := Plan{Spec: spec, Limits: pipeline.Limits{BatchSize: 10, Lanes: lanes, OnError: policy}, Codec: fakeCodec{},
							DeadLetters: letters, Reader: outbox, Sink: sinks[0]}
						for _, sink := range sinks[1:] {
							plan.LaneSinks = append(plan.LaneSinks, sink)
						}
						return plan, nil
					}, Options{})
					await(t, "the position", func() bool { return outbox.position() == 300 })
					stop()
					for _, key := range []string{"a", "b", "c", "d"} {
						var want, got []string
						for i := range all {
							parked := key == "b" && policy == pipeline.ParkKey && i > 101
							if all[i].Key == key && all[i].EventID != "e102" && !parked {
								want = append(want, all[i].EventID)
							}
						}
						for _, sink := range sinks {
							got = append(got, sink.ofKey(key)...)
						}
						equal(t, "key "+key, got, want)
					}
					if dead := letters.ids(); !slices.Contains(dead, "e102") || policy == pipeline.DeadLetter && len(dead) != 1 {
						t.Errorf("dead letters %q", dead)
					}
					for _, sink := range sinks {
						if sink.opens != 1 {
							t.Errorf("%d sessions", sink.opens)
						}
					}
				})
			})
		}
	}
}
