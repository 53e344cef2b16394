package webhook

import (
	"context"
	"fmt"
	"slices"
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

// deliver posts the events of a request and says what became of each. A batch
// that is refused says nothing about any of its events: they are posted one by one.
func (s *sinkSession) deliver(ctx context.Context, load []*parcel) []error {
	err := s.insist(ctx, load)
	if len(load) == 1 || !isRefusal(err) {
		return slices.Repeat([]error{err}, len(load))
	}
	return s.oneByOne(ctx, load)
}

// oneByOne posts the events of a batch in order, each by itself. What is behind
// a refused event of its key is not sent. Without it: a batch has two events of
// a key, the first is refused and the second taken; then the first is tried
// again, and taken behind it.
func (s *sinkSession) oneByOne(ctx context.Context, load []*parcel) []error {
	outcomes := make([]error, len(load))
	refused := map[string]*parcel{}
	for i, p := range load {
		key := p.envelope.Key
		if first := refused[key]; first != nil {
			outcomes[i] = heldBehind(first)
			continue
		}
		// Once the session has failed there would be a gap in front of p.
		if outcomes[i] = s.failure(); outcomes[i] != nil {
			continue
		}
		outcomes[i] = s.insist(ctx, load[i:i+1])
		if key != "" && isRefusal(outcomes[i]) {
			refused[key] = p
		}
	}
	return outcomes
}

func isRefusal(err error) bool {
	verdict, _ := delivery.VerdictOf(err)
	return err != nil && verdict == delivery.VerdictReject
}

// insist posts a request, and again, the same, where the service may think
// better of it.
func (s *sinkSession) insist(ctx context.Context, load []*parcel) error {
	envelope := s.sink.requestOf(load)
	backoff := retry.Backoff{Initial: 200 * time.Millisecond, Max: longestInside, Jitter: 0.2}
	before := s.count()
	for attempt := 1; ; attempt++ {
		err := s.sink.ask()
		if err == nil {
			err = s.sink.sender.Post(ctx, envelope)
		}
		verdict, after := delivery.VerdictOf(err)
		switch {
		case err == nil:
			s.took(len(load))
			return nil
		case verdict == delivery.VerdictReject:
			return err
		case !delivery.IsDoubtful(err), after > longestInside, ctx.Err() != nil:
			return s.over(err)
		case attempt == sinkAttempts && s.count() > before:
			// The service works, and not for this event.
			return delivery.Reject(fmt.Errorf("%w; it took other events meanwhile, and this one was tried %d times", err, attempt))
		case attempt == sinkAttempts && len(load) > 1:
			// One event may be what it breaks on, or all together are too much for
			// it: then the same batch would fail for ever.
			return delivery.Reject(err)
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

func (s *sinkSession) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *sinkSession) took(events int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken += events
}

func (s *sinkSession) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}
