package relay

import (
	"context"
	"sync"
)

// tracker knows what was handed to the lanes and is not settled. It says in
// order when something, and everything before it, is: lanes finish in any
// order, positions and acknowledgements must not.
type tracker[T any] struct {
	// most bounds what is handed out: values that are not done, though only
	// because one before them is not; events that are not settled; the bytes
	// of values that are not settled as a whole.
	most size
	// done gets the values in order. It is called with the lock held: it must
	// not wait.
	done func(T)
	room chan struct{}

	mu   sync.Mutex
	open []*tracked[T]
	out  size
}

type size struct{ values, events, bytes int }

// tracked is one value with the number of its events that are not settled.
type tracked[T any] struct {
	value T
	bytes int
	left  int
}

func newTracker[T any](most size, done func(T)) *tracker[T] {
	return &tracker[T]{most: most, done: done, room: make(chan struct{}, 1)}
}

// admit waits until there is room, and takes a value in. One goroutine calls it.
func (t *tracker[T]) admit(ctx context.Context, value T, events, bytes int) (*tracked[T], error) {
	for {
		if taken := t.tryAdmit(value, events, bytes); taken != nil {
			return taken, nil
		}
		select {
		case <-t.room:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (t *tracker[T]) tryAdmit(value T, events, bytes int) *tracked[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) >= t.most.values || t.out.events >= t.most.events || t.out.bytes >= t.most.bytes {
		return nil
	}
	taken := &tracked[T]{value: value, left: events, bytes: bytes}
	t.open = append(t.open, taken)
	t.out.events += events
	t.out.bytes += bytes
	return taken
}

// settle says that n events of a value need nothing more.
func (t *tracker[T]) settle(of *tracked[T], n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of.left -= n
	t.out.events -= n
	signal(t.room)
	if of.left > 0 {
		return
	}
	t.out.bytes -= of.bytes
	for len(t.open) > 0 && t.open[0].left <= 0 {
		t.done(t.open[0].value)
		t.open = t.open[1:]
	}
}

// idle says that everything taken in is settled.
func (t *tracker[T]) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open) == 0
}
