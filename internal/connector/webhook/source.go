package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// errSourceClosed is what Fetch returns without a session.
var errSourceClosed = errors.New("fetch from a webhook before the source was opened")

// Source takes requests, and answers each when its message is committed.
type Source struct {
	settings sourceSettings
	pipeline string
	hub      *Hub
	limiter  *rate.Limiter
	// room bounds the requests that wait.
	room chan struct{}
	now  func() time.Time

	mu      sync.Mutex
	session *sourceSession
}

// sourceSession is what lies between Open and Close.
type sourceSession struct {
	arrivals chan *arrival
	// ended is closed once cause is set.
	ended chan struct{}
	cause error
}

// arrival is a request whose sender waits.
type arrival struct {
	envelope message.Envelope
	// stored is closed when the message is committed.
	stored chan struct{}
}

// NewSource checks the configuration and listens nowhere.
func NewSource(values SourceValues, pipeline string, hub *Hub) (*Source, error) {
	settings, err := readSourceSettings(values, pipeline)
	if err != nil {
		return nil, err
	}
	s := &Source{settings: settings, pipeline: pipeline, hub: hub, room: make(chan struct{}, settings.maxPending), now: time.Now}
	if settings.perSecond > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(settings.perSecond), max(1, int(settings.perSecond)))
	}
	return s, nil
}

// Open begins to listen.
func (s *Source) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	s.session = &sourceSession{arrivals: make(chan *arrival), ended: make(chan struct{})}
	s.mu.Unlock()
	if err := s.hub.join(ctx, s); err != nil {
		s.end(err)
		return err
	}
	return nil
}

// Close tells those that wait to come again, and stops listening where nobody
// else does. It may be called twice, or before Open.
func (s *Source) Close(ctx context.Context) error {
	s.end(errSourceClosed)
	s.hub.leave(ctx, s)
	return nil
}

func (s *Source) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		s.session.cause = cause
		close(s.session.ended)
		s.session = nil
	}
}

func (s *Source) current() *sourceSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// Fetch waits for a request, and takes those that wait with it.
func (s *Source) Fetch(ctx context.Context, limit int) (message.Delivery, error) {
	session := s.current()
	if session == nil {
		return message.Delivery{}, errSourceClosed
	}
	var taken []*arrival
	select {
	case a := <-session.arrivals:
		taken = append(taken, a)
	case <-session.ended:
		return message.Delivery{}, session.cause
	case <-ctx.Done():
		return message.Delivery{}, context.Cause(ctx)
	}
	for more := true; more && len(taken) < limit; {
		select {
		case a := <-session.arrivals:
			taken = append(taken, a)
		default:
			more = false
		}
	}
	d := message.Delivery{Envelopes: make([]message.Envelope, len(taken))}
	for i, a := range taken {
		d.Envelopes[i] = a.envelope
	}
	d.Acknowledge = func(context.Context) error {
		for _, a := range taken {
			close(a.stored)
		}
		return nil
	}
	return d, nil
}

// ServeHTTP answers one request: 204 when its message is committed.
func (s *Source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
	case http.MethodOptions:
		allow(w, r)
		return
	default:
		w.Header().Set("Allow", "POST, OPTIONS")
		say(w, http.StatusMethodNotAllowed, "send events by POST")
		return
	}
	if s.limiter != nil && !s.limiter.AllowN(s.now(), 1) {
		later(w, http.StatusTooManyRequests, "too many requests a second")
		return
	}
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	default:
		later(w, http.StatusServiceUnavailable, "too many requests wait")
		return
	}
	envelope, err := s.receive(w, r)
	var refused *requestError
	switch {
	case errors.As(err, &refused):
		say(w, refused.status, refused.text)
		return
	case err != nil:
		return // the sender is gone
	}
	s.hold(w, r, &arrival{envelope: envelope, stored: make(chan struct{})})
}

// receive reads and checks a request.
func (s *Source) receive(w http.ResponseWriter, r *http.Request) (message.Envelope, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.settings.maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return message.Envelope{}, refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", s.settings.maxBody)
	case err != nil:
		return message.Envelope{}, err
	}
	now := s.now()
	if err := s.settings.verify(r.Header, body, now); err != nil {
		return message.Envelope{}, refuse(http.StatusUnauthorized, "%v", err)
	}
	return s.settings.envelope(r, body, now)
}

// hold keeps the sender waiting until its message is committed. When that takes
// too long, or the session ends, nobody knows whether it will be: the sender
// comes again, and the inbox knows the message by its id.
func (s *Source) hold(w http.ResponseWriter, r *http.Request, a *arrival) {
	session := s.current()
	if session == nil {
		later(w, http.StatusServiceUnavailable, "the inbox cannot be reached")
		return
	}
	patience := time.NewTimer(s.settings.responseTimeout)
	defer patience.Stop()
	arrivals := session.arrivals
	for {
		select {
		case arrivals <- a:
			arrivals = nil
		case <-a.stored:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-session.ended:
			select {
			case <-a.stored: // both happened
				w.WriteHeader(http.StatusNoContent)
			default:
				later(w, http.StatusServiceUnavailable, "the inbox cannot be reached")
			}
			return
		case <-patience.C:
			later(w, http.StatusServiceUnavailable, fmt.Sprintf("the inbox did not take it within %s", s.settings.responseTimeout))
			return
		case <-r.Context().Done():
			return
		}
	}
}

// allow answers whoever asks, as CloudEvents' web hooks do, whether it may send.
func allow(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", "POST, OPTIONS")
	if origin := r.Header.Get("Webhook-Request-Origin"); origin != "" {
		w.Header().Set("Webhook-Allowed-Origin", origin)
		w.Header().Set("Webhook-Allowed-Rate", "*")
	}
	w.WriteHeader(http.StatusOK)
}

// retrySeconds is when a sender that is told to come later should.
const retrySeconds = 1

func later(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Retry-After", strconv.Itoa(retrySeconds))
	say(w, status, text)
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the sender is gone; there is nobody to tell
}

// taken is that a path has another owner.
func taken(path, listen, by string) error {
	return delivery.Misconfigured(fmt.Errorf("path %s of %s is pipeline %q's already; choose another path", path, listen, by))
}
