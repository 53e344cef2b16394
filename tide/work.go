package tide

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

// work handles messages until the queue is closed. A handler that ends its
// goroutine, as FailNow of a test does, ends this one; another takes its place.
func (s *shift) work() {
	ended := true
	defer func() {
		if ended {
			s.handlers.Go(s.work)
		}
	}()
	for d := range s.queue {
		s.handle(d)
	}
	ended = false
}

// handle works one message and settles it.
func (s *shift) handle(d *delivery) {
	ctx, cancel := context.WithCancelCause(s.handling)
	defer cancel(nil)
	if !s.begin(d, cancel) {
		return // its lease was lost while it waited
	}
	ctx = context.WithValue(ctx, deliveryKey{}, d)
	if parent := d.Header(headerTraceparent); parent != "" {
		ctx = WithTrace(ctx, parent, d.Header(headerTracestate))
	}
	handler := s.chained[d.Type]
	if handler == nil {
		handler = s.fallback
	}
	started := time.Now()
	err := errEndedGoroutine
	defer func() {
		d.took = time.Since(started)
		s.finish(ctx, d, err)
	}()
	err = call(ctx, handler, d.Message)
}

var errEndedGoroutine = errors.New("the handler ended its goroutine")

// begin says whether the message is still there to be worked.
func (s *shift) begin(d *delivery, cancel context.CancelCauseFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.cancel = cancel
	return s.held[d.ID] == d
}

// call turns a panic into an error.
func call(ctx context.Context, handler Handler, m *Message) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return handler(ctx, m)
}

// finish settles a message by what its handler returned.
func (s *shift) finish(ctx context.Context, d *delivery, err error) {
	if err == nil {
		err = d.tx.commit(s, d)
		switch {
		case err == nil && d.tx.completed:
			s.settled(Processed, d)
			return
		case err == nil:
			s.finished <- d
			return
		case isLost(err):
			s.lose(d, err)
			return
		}
	}
	d.tx.rollback(s)
	s.settle(d)
	switch verdict := new(verdict); {
	case errors.Is(context.Cause(ctx), ErrLeaseLost):
		s.lose(d, ErrLeaseLost)
	case errors.As(err, &verdict) && verdict.kind == Released:
		s.release(d, verdict.pause)
	case errors.As(err, &verdict) && verdict.kind == Dead:
		s.fail(d, err, nil, true)
	case errors.As(err, &verdict):
		s.fail(d, err, &verdict.pause, false)
	case errors.Is(context.Cause(ctx), ErrStopping):
		s.release(d, 0)
	default:
		s.fail(d, err, nil, false)
	}
}

// lose lets go of a message that is another worker's by now, or will be.
func (s *shift) lose(d *delivery, err error) {
	if isLost(err) || errors.Is(err, ErrLeaseLost) {
		s.log.Warn("the lease on a message was lost; what was done for it by Tx is undone", "event_id", d.EventID, "error", err)
	} else {
		s.log.Error("cannot say what became of a message; it is worked again when its lease ends", "event_id", d.EventID, "error", err)
	}
	s.settled(Lost, d)
}
