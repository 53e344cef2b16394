package tide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrStopTimeout is returned by Run when handlers did not return in time.
// Their messages are to be had again when the leases end.
var ErrStopTimeout = errors.New("handlers did not return within the stop timeout")

// ErrStopping is the cause of the end of a handler's context when its worker
// has to stop. The message of a handler that then returns an error is released.
var ErrStopping = errors.New("the worker is stopping")

// ErrLeaseLost is the cause of the end of a handler's context when another
// worker may have the message: nothing the handler does by Tx will be committed.
var ErrLeaseLost = errors.New("the lease on the message was lost")

// shift is one run of a worker.
type shift struct {
	*Worker
	pool *pgxpool.Pool // of control connections
	log  *slog.Logger

	// handling is what handlers work in; it ends at four fifths of the stop
	// timeout. settling is for what has to be said afterwards; it ends with it.
	handling, settling context.Context
	endHandling        context.CancelCauseFunc
	endSettling        context.CancelFunc

	queue    chan *delivery // claimed and not begun
	finished chan *delivery // done, and to be completed with others
	wake     chan struct{}  // something may be there to claim
	full     atomic.Bool    // the last claim may have left some
	handlers sync.WaitGroup
	chained  map[string]Handler
	fallback Handler

	mu   sync.Mutex
	held map[int64]*delivery // claimed and not settled
	pace pace
}

// delivery is one claimed message on its way through the worker.
type delivery struct {
	*Message
	token string
	shift *shift
	took  time.Duration

	// guarded by shift.mu
	settling bool
	cancel   context.CancelCauseFunc

	tx work
}

func newShift(ctx context.Context, w *Worker, control *pgxpool.Pool) *shift {
	s := &shift{
		Worker:   w,
		pool:     control,
		log:      w.config.Logger,
		queue:    make(chan *delivery, w.config.Prefetch),
		finished: make(chan *delivery, w.config.Prefetch),
		wake:     make(chan struct{}, 1),
		held:     map[int64]*delivery{},
		chained:  map[string]Handler{},
		fallback: w.handler(""),
	}
	for eventType := range w.handlers {
		s.chained[eventType] = w.handler(eventType)
	}
	without := context.WithoutCancel(ctx)
	s.settling, s.endSettling = context.WithCancel(without)
	s.handling, s.endHandling = context.WithCancelCause(without)
	return s
}

// run claims until ctx ends, and then stops.
func (s *shift) run(ctx context.Context) error {
	defer s.endSettling()
	defer s.endHandling(nil)
	var completer, attendants sync.WaitGroup
	for range s.config.Concurrency {
		s.handlers.Go(s.work)
	}
	completer.Go(s.completeFinished)
	attending, endAttending := context.WithCancel(s.settling)
	defer attendants.Wait()
	defer endAttending()
	claiming, endClaiming := context.WithCancel(ctx)
	defer endClaiming()
	attendants.Go(func() { s.heartbeat(attending) })
	if !s.config.PollOnly {
		attendants.Go(func() { s.listen(claiming) })
	}
	err := s.claimAll(claiming)
	endClaiming()
	return errors.Join(err, s.stop(&completer))
}

// stop releases what was not begun and waits for the rest, within the timeout.
func (s *shift) stop(completer *sync.WaitGroup) error {
	soft := time.AfterFunc(s.config.StopTimeout*4/5, func() { s.endHandling(ErrStopping) })
	defer soft.Stop()
	hard := time.AfterFunc(s.config.StopTimeout, s.endSettling)
	defer hard.Stop()

	var unbegun []*delivery
	for len(s.queue) > 0 {
		select {
		case d := <-s.queue:
			unbegun = append(unbegun, d)
		default: // a handler was quicker
		}
	}
	close(s.queue)
	s.releaseUnbegun(unbegun)

	returned := make(chan struct{})
	go func() {
		s.handlers.Wait()
		close(s.finished) // nobody is left who sends
		completer.Wait()
		close(returned)
	}()
	select {
	case <-returned:
		return nil
	case <-s.settling.Done():
	}
	select {
	case <-returned: // the last of them needed the time to the end
		return nil
	default:
	}
	s.mu.Lock()
	left := len(s.held)
	s.mu.Unlock()
	return fmt.Errorf("the worker of inbox %q: %w (%s): %d messages are in work; others get them when their leases end", s.config.Inbox, ErrStopTimeout, s.config.StopTimeout, left)
}

// nudge has the claimer look again.
func (s *shift) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// settle marks a message as one that heartbeats leave alone from now on.
func (s *shift) settle(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.settling = true
}

// settled forgets a message, and says what became of it.
func (s *shift) settled(outcome Outcome, all ...*delivery) {
	s.mu.Lock()
	for _, d := range all {
		delete(s.held, d.ID)
	}
	s.pace.done(len(all), time.Now())
	s.mu.Unlock()
	// Another of its key may follow, or it may be had again itself, or there was
	// no room for all there is.
	look := s.full.Load() || outcome != Processed
	for _, d := range all {
		look = look || d.Key != ""
		s.config.Metrics.Handled(d.Message, outcome, d.took)
	}
	if look {
		s.nudge()
	}
}
