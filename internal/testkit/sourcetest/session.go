package sourcetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

// read fetches and acknowledges until it has n envelopes.
func read(ctx context.Context, t testing.TB, source relay.Source, n int) []message.Envelope {
	t.Helper()
	var got []message.Envelope
	for len(got) < n {
		got = append(got, fetchAndAcknowledge(ctx, t, source, min(batch, n-len(got)))...)
	}
	return got
}

func fetchAndAcknowledge(ctx context.Context, t testing.TB, source relay.Source, limit int) []message.Envelope {
	t.Helper()
	delivered := fetch(ctx, t, source, limit)
	if err := delivered.Acknowledge(ctx); err != nil {
		t.Fatalf("acknowledge: %v", err)
	}
	return delivered.Envelopes
}

func fetch(ctx context.Context, t testing.TB, source relay.Source, limit int) message.Delivery {
	t.Helper()
	delivered, err := source.Fetch(ctx, limit)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	if len(delivered.Envelopes) > limit {
		t.Fatalf("fetched %d envelopes, asked for %d at most", len(delivered.Envelopes), limit)
	}
	return delivered
}

// same fails t unless what was read is what was published, each once.
func same(t testing.TB, f Features, got, want []message.Envelope) {
	t.Helper()
	conformance.Exactly(t, conformance.Kept(f.Lacks, f.OrderByKey), got, want)
}

func opened(ctx context.Context, t testing.TB, h Harness) relay.Source {
	t.Helper()
	source := h.New(t)
	if err := source.Open(ctx); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closed(context.WithoutCancel(ctx), t, source) })
	return source
}

func reopen(ctx context.Context, t testing.TB, source relay.Source) {
	t.Helper()
	closed(ctx, t, source)
	if err := source.Open(ctx); err != nil {
		t.Fatalf("open again: %v", err)
	}
}

func closed(ctx context.Context, t testing.TB, source relay.Source) {
	t.Helper()
	if err := source.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// accident happens to a session between a fetch and its acknowledgement.
type accident struct {
	// happens may end the session by an error.
	happens func() error
	// before says that what was fetched was not durable yet, and is gone: only
	// the far end has it.
	before bool
}

// errGone ends a session whose messages are gone.
var errGone = errors.New("the relay died before its commit")

// engine reads as the engine does: what it has is durable before it is
// acknowledged, and after any error a new session begins.
type engine struct {
	source relay.Source
	// amid happens, once each, when that many messages are there.
	amid map[int]accident

	got      []message.Envelope
	distinct map[string]bool
}

// run reads until n different messages are there.
func (e *engine) run(ctx context.Context, t testing.TB, n int) {
	t.Helper()
	if e.distinct == nil {
		e.distinct = map[string]bool{}
	}
	conformance.Retry(ctx, t, func() error {
		for len(e.distinct) < n {
			if err := e.once(ctx); err != nil {
				if opening := e.source.Open(ctx); opening != nil {
					return opening
				}
				return err
			}
		}
		return nil
	})
}

// fetching bounds one fetch: a far end that hangs, or a connection that is
// dead without saying so, is left after that.
const fetching = 10 * time.Second

func (e *engine) once(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, fetching)
	defer cancel()
	delivered, err := e.source.Fetch(short, batch)
	if err != nil {
		return err
	}
	for at, accident := range e.amid {
		if len(e.distinct)+len(delivered.Envelopes) < at {
			continue
		}
		delete(e.amid, at)
		if !accident.before {
			e.keep(delivered.Envelopes)
		}
		if err := accident.happens(); err != nil {
			return err
		}
		if accident.before {
			return errGone
		}
	}
	e.keep(delivered.Envelopes)
	return delivered.Acknowledge(short)
}

// keep is the commit. To keep something twice is no more than once.
func (e *engine) keep(envelopes []message.Envelope) {
	e.got = append(e.got, envelopes...)
	for i := range envelopes {
		e.distinct[string(envelopes[i].Body)] = true
	}
}
