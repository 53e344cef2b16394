package push

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/run"
)

// post is one message on its way to the service and back.
type post struct {
	message.Claimed
	cancel context.CancelFunc
	err    error
	// cut says that it was ended by us: nothing is known about it.
	cut bool
	// lost says that the lease was lost: there is nothing to settle.
	lost bool
	// next is what becomes of it, decided when it came back.
	next  next
	pause time.Duration
}

type next int

const (
	complete next = iota
	fail
	giveUp
	release
)

// shift is a pusher at work. One goroutine has it; each request has one more,
// which only posts.
type shift struct {
	*Pusher
	monitor pipeline.PushMonitor
	most    int
	flight  map[int64]*post // out, or back and not settled
	back    []*post         // back and not settled
	out     int
	results chan *post
	circuit *circuit
	// extended is when the leases were last extended.
	extended time.Time
	// silent counts failures of the database in a row, since when.
	silent int
	since  time.Time
}

var errNotOurs = errors.New("this relay may not act for the pipeline any more")

func (s *shift) run(intake, work context.Context) error {
	s.extended = s.clock.Now()
	for {
		s.collect()
		err := s.step(intake, work)
		if work.Err() != nil {
			s.abandon(work)
			return nil //nolint:nilerr // told to end: what the database said of it matters no more
		}
		if intake.Err() != nil && len(s.flight) == 0 {
			return nil
		}
		s.wait(intake, work, s.doze(err))
	}
}

// step does what is to do in the database.
func (s *shift) step(intake, work context.Context) error {
	if err := s.settle(work); err != nil {
		return err
	}
	if err := s.extend(work); err != nil {
		return err
	}
	if intake.Err() != nil {
		return nil //nolint:nilerr // told to take nothing new
	}
	return s.claim(work)
}

// doze says how long there may be nothing to do, and reports a database that fails.
func (s *shift) doze(err error) time.Duration {
	if err != nil {
		if s.silent == 0 {
			s.since = s.clock.Now()
		}
		s.silent++
		s.monitor.Waiting(pipeline.StateWaiting, fmt.Sprintf("inbox_push waits for the database since %s: %v", clockTime(s.since), err), err)
		return s.options.Waiting.After(s.silent)
	}
	if s.silent > 0 {
		s.silent = 0
		if !s.circuit.tripped && s.circuit.failures == 0 {
			s.monitor.Well()
		}
	}
	rest := s.options.Poll
	if left := s.circuit.left(); left > 0 {
		rest = min(rest, left)
	}
	return min(rest, s.options.Lease/3)
}

// wait ends when something may be to do.
func (s *shift) wait(intake, work context.Context, most time.Duration) {
	timer := s.clock.NewTimer(most)
	defer timer.Stop()
	stopping := intake.Done()
	inserted := s.monitor.Inserted()
	if intake.Err() != nil {
		stopping, inserted = nil, nil
	}
	select {
	case p := <-s.results:
		s.took(p)
	case <-inserted:
	case <-timer.C():
	case <-stopping:
	case <-work.Done():
	}
}

// collect takes what has come back meanwhile, so that it is settled at once.
func (s *shift) collect() {
	for {
		select {
		case p := <-s.results:
			s.took(p)
		default:
			return
		}
	}
}

// took notes what came back and decides what becomes of it.
func (s *shift) took(p *post) {
	s.out--
	p.cancel()
	if p.lost {
		delete(s.flight, p.ID)
		return
	}
	s.back = append(s.back, p)
	verdict, after := delivery.VerdictOf(p.err)
	switch {
	case p.err == nil:
		p.next = complete
		s.wellAgain()
	case p.cut:
		p.next = release
	case verdict == delivery.VerdictReject:
		p.next = giveUp
		s.monitor.Failed(s.named(p))
		s.wellAgain() // the service answers
	case delivery.IsDoubtful(p.err):
		p.next, p.pause = fail, after
		s.doubted(p)
	default:
		p.next = release
		s.troubled(p, verdict, s.circuit.failed(after))
	}
}

func (s *shift) wellAgain() {
	if s.circuit.success() {
		s.monitor.Well()
	}
}

// doubted counts a failure that may be the message's own. While the circuit is
// open no attempt is used up: the message waits for long enough that others
// are tried before it, since it may be the only one that fails.
func (s *shift) doubted(p *post) {
	s.monitor.Failed(s.named(p))
	was := s.circuit.tripped
	open := s.circuit.doubtful(p.ID)
	if was {
		p.next, p.pause = release, time.Duration(float64(s.circuit.open)*(1+9*rand.Float64())) //nolint:gosec // spreads, hides nothing
		s.circuit.failed(0)
	}
	if open {
		s.troubled(p, delivery.VerdictRetry, true)
	}
}

// troubled says what is wrong with the service.
func (s *shift) troubled(p *post, verdict delivery.Verdict, open bool) {
	state := pipeline.StateWaiting
	if verdict == delivery.VerdictMisconfigured {
		state = pipeline.StateMisconfigured
		if err := s.poster.Open(); err != nil { // a file may have been mended
			p.err = err
		}
	}
	since := clockTime(s.circuit.since)
	reason := fmt.Sprintf("inbox_push waits for the service since %s: %v", since, p.err)
	if open {
		reason = fmt.Sprintf("inbox_push: circuit open until %s after failures in a row since %s: %v",
			clockTime(s.circuit.until), since, p.err)
	}
	s.monitor.Waiting(state, reason, p.err)
}

func (s *shift) named(p *post) error {
	return fmt.Errorf("inbox_push of event %s (key %q): %w", p.Message.EventID, p.Message.Key, p.err)
}

// claim takes as many messages as may be sent at once, and sends them.
func (s *shift) claim(work context.Context) error {
	free := s.circuit.allowed(s.most) - len(s.flight)
	if free <= 0 {
		return nil
	}
	if err := s.monitor.Owns(); err != nil {
		return err
	}
	claimed, err := s.inbox.Claim(work, free, s.options.Lease)
	if err != nil {
		return err
	}
	for i := range claimed {
		s.send(work, claimed[i])
	}
	return nil
}

func (s *shift) send(work context.Context, claimed message.Claimed) {
	ctx, cancel := context.WithCancel(work)
	p := &post{Claimed: claimed, cancel: cancel}
	s.flight[p.ID] = p
	s.out++
	run.Start(ctx, func(_, ctx context.Context) error {
		p.err = run.Protect(func() error { return s.deliver(ctx, &p.Message) })
		p.cut = p.err != nil && (ctx.Err() != nil || errors.Is(p.err, errNotOurs))
		s.results <- p // never waits: it has room for all
		return nil
	})
}

func (s *shift) deliver(ctx context.Context, m *message.Message) error {
	if m.Source == "" {
		m.Source = "/" // no event goes without one
	}
	envelope, err := s.codec.Encode(m)
	if err != nil {
		return delivery.Reject(err)
	}
	if err := s.monitor.Owns(); err != nil {
		return fmt.Errorf("%w: %w", errNotOurs, err)
	}
	return s.poster.Post(ctx, &envelope)
}

func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
