package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/retry"
)

const (
	// sinkAttempts is how often an event is posted before the session asks the
	// engine what to do.
	sinkAttempts = 4
	// longestInside is the longest pause between them; for a longer one that a
	// service asks for the whole pipeline waits.
	longestInside = 5 * time.Second
)

// deliver posts one event, and again where the service may think better of it.
func (s *sinkSession) deliver(ctx context.Context, p *parcel) error {
	backoff := retry.Backoff{Initial: 200 * time.Millisecond, Max: longestInside, Jitter: 0.2}
	before := s.count()
	for attempt := 1; ; attempt++ {
		err := s.sink.ask()
		if err == nil {
			err = s.sink.sender.Post(ctx, &p.envelope)
		}
		verdict, after := delivery.VerdictOf(err)
		switch {
		case err == nil, verdict == delivery.VerdictReject:
			return err
		case !delivery.IsDoubtful(err), after > longestInside, ctx.Err() != nil:
			return s.over(err)
		case attempt == sinkAttempts && s.count() > before:
			// The service works, and not for this event.
			return delivery.Reject(fmt.Errorf("%w; it took other events meanwhile, and this one was tried %d times", err, attempt))
		case attempt == sinkAttempts:
			return s.over(err)
		}
		if err := retry.Sleep(ctx, retry.System{}, max(after, backoff.After(attempt))); err != nil {
			return s.over(err)
		}
	}
}

// over ends the session with an error, which it returns.
func (s *sinkSession) over(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail(err)
	return err
}

func (s *sinkSession) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
