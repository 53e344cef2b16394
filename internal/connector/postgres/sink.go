package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Deps is what a sink gets besides its configuration.
type Deps struct {
	// Templates are all that the pipeline may make a destination of.
	Templates []string
	// Decode reads an event that the pipeline's codec wrote.
	Decode func(e *message.Envelope) (message.Message, error)
}

// watchEvery is how often an idle sink asks whether the other database answers.
const watchEvery = 10 * time.Second

// Sink delivers to inboxes, or to outboxes, of one other database.
type Sink struct {
	config *pgxpool.Config
	deps   Deps
	find   func(ctx context.Context, peer *catalog.Peer, name string) error
	store  func(ctx context.Context, peer *catalog.Peer, name string, messages []message.Message) (int, error)

	knows func(ctx context.Context, peer *catalog.Peer, name, eventID string, at time.Time) (delivery.Proof, error)

	mu   sync.Mutex
	peer *catalog.Peer
	// last is the last event that was committed to each inbox or outbox.
	last map[string]string
}

// NewInboxSink makes a sink that inserts into inboxes. It does no network.
func NewInboxSink(values Values, deps Deps) (*Sink, error) {
	return newSink(values, deps, &Sink{find: findInbox, store: insertInbox, knows: inboxKnows})
}

// NewOutboxSink makes a sink that publishes to outboxes. It does no network.
func NewOutboxSink(values Values, deps Deps) (*Sink, error) {
	return newSink(values, deps, &Sink{find: findOutbox, store: publishOutbox, knows: outboxKnows})
}

func newSink(values Values, deps Deps, s *Sink) (*Sink, error) {
	s.deps = deps
	var err error
	s.config, err = connection(values)
	return s, err
}

func findInbox(ctx context.Context, peer *catalog.Peer, name string) error {
	return peer.FindInbox(ctx, name)
}

func findOutbox(ctx context.Context, peer *catalog.Peer, name string) error {
	return peer.FindOutbox(ctx, name)
}

func insertInbox(ctx context.Context, peer *catalog.Peer, name string, messages []message.Message) (int, error) {
	return peer.InsertInbox(ctx, name, messages)
}

func publishOutbox(ctx context.Context, peer *catalog.Peer, name string, messages []message.Message) (int, error) {
	return peer.PublishOutbox(ctx, name, messages)
}

func inboxKnows(ctx context.Context, peer *catalog.Peer, name, eventID string, at time.Time) (delivery.Proof, error) {
	return peer.InboxKnows(ctx, name, eventID, at)
}

func outboxKnows(ctx context.Context, peer *catalog.Peer, name, eventID string, at time.Time) (delivery.Proof, error) {
	return peer.OutboxKnows(ctx, name, eventID, at)
}

// Open connects and makes sure that the inboxes or outboxes whose names are
// written out are there.
func (s *Sink) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil {
		return err
	}
	peer, err := catalog.Visit(ctx, s.config.Copy(), `key "url"`)
	if err != nil {
		return err
	}
	for _, name := range s.deps.Templates {
		if strings.Contains(name, "{") {
			continue
		}
		if err := s.find(ctx, peer, name); err != nil {
			peer.Close()
			return err
		}
	}
	s.mu.Lock()
	s.peer = peer
	s.mu.Unlock()
	return nil
}

// Close drops the connection; it may be called twice, or before Open.
func (s *Sink) Close(context.Context) error {
	s.mu.Lock()
	peer := s.peer
	s.peer = nil
	s.mu.Unlock()
	if peer != nil {
		peer.Close()
	}
	return nil
}

func (s *Sink) current() (*catalog.Peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer == nil {
		return nil, errors.New("send to the other database before the sink was opened")
	}
	return s.peer, nil
}

// Send stores the events and returns when they are committed there, so that
// one which is refused is known before any behind it is stored. Events for one
// inbox or outbox are one statement and one transaction.
func (s *Sink) Send(ctx context.Context, envelopes []message.Envelope) (delivery.Receipt, error) {
	peer, err := s.current()
	if err != nil {
		return nil, err
	}
	messages, err := s.decode(envelopes)
	if err != nil {
		return nil, err
	}
	for _, group := range byDestination(envelopes) {
		part := make([]message.Message, len(group.places))
		for i, place := range group.places {
			part[i] = messages[place]
		}
		_, err := s.store(ctx, peer, group.destination, part)
		if err != nil {
			return nil, s.judge(err, group)
		}
		s.note(group.destination, part[len(part)-1].EventID)
	}
	return committed{}, nil
}

// decode fails with *delivery.Partial.
func (s *Sink) decode(envelopes []message.Envelope) ([]message.Message, error) {
	messages := make([]message.Message, len(envelopes))
	failed := map[int]error{}
	for i := range envelopes {
		var err error
		if messages[i], err = s.deps.Decode(&envelopes[i]); err != nil {
			failed[i] = delivery.Reject(err)
		}
	}
	if len(failed) > 0 {
		return nil, &delivery.Partial{Failed: failed}
	}
	return messages, nil
}

// group is what goes to one inbox or outbox.
type group struct {
	destination string
	places      []int
}

func byDestination(envelopes []message.Envelope) []*group {
	var groups []*group
	known := map[string]*group{}
	for i := range envelopes {
		to := envelopes[i].Destination
		g := known[to]
		if g == nil {
			g = &group{destination: to}
			known[to] = g
			groups = append(groups, g)
		}
		g.places = append(g.places, i)
	}
	return groups
}

// judge translates what the store said of a group's events. Those of an inbox
// that a template names and nobody made are refused; others must not wait for it.
func (s *Sink) judge(err error, g *group) error {
	var partial *delivery.Partial
	if errors.As(err, &partial) {
		failed := map[int]error{}
		for i, refusal := range partial.Failed {
			failed[g.places[i]] = refusal
		}
		return &delivery.Partial{Failed: failed}
	}
	if !s.isWritten(g.destination) && isUnknown(err) {
		failed := map[int]error{}
		for _, place := range g.places {
			failed[place] = delivery.Reject(fmt.Errorf("%w", unjudged(err)))
		}
		return &delivery.Partial{Failed: failed}
	}
	return err
}

// isWritten tells whether the operator wrote the name, and no event filled it in.
func (s *Sink) isWritten(name string) bool {
	for _, template := range s.deps.Templates {
		if template == name {
			return true
		}
	}
	return false
}

// isUnknown tells whether an inbox or outbox is not there.
func isUnknown(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "42704"
}

// unjudged is err without its verdict.
func unjudged(err error) error {
	var judged *delivery.Error
	if errors.As(err, &judged) {
		return judged.Err
	}
	return err
}

// Watch notices that the other database is gone while there is nothing to send.
func (s *Sink) Watch(ctx context.Context) error {
	peer, err := s.current()
	if err != nil {
		return err
	}
	again := time.NewTicker(watchEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			if err := ping(ctx, peer); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

func ping(ctx context.Context, peer *catalog.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	return peer.Ping(ctx)
}

// committed is the receipt of what is durable already.
type committed struct{}

// Wait returns nil.
func (committed) Wait(context.Context) error { return nil }
