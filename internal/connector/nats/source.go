package nats

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/message"
)

// Source reads a stream through a durable pull consumer.
type Source struct {
	address  address
	settings streamSettings
	consumer consumerSettings
	deps     Deps
	log      *slog.Logger
	measures time.Duration // between two questions for the backlog

	mu        sync.Mutex
	session   *session
	resumes   bool // the database remembers how far it has got
	mark      message.Mark
	left      int64 // as it was last known
	leftKnown bool
}

// NewSource checks the configuration and connects to nothing.
func NewSource(values Values, deps Deps) (*Source, error) {
	s := &Source{deps: deps, log: deps.logger(), measures: backlogInterval}
	var err error
	if s.address, err = readAddress(values); err != nil {
		return nil, err
	}
	if s.settings, err = readStreamSettings(values); err != nil {
		return nil, err
	}
	if s.consumer, err = readConsumerSettings(values, &deps); err != nil {
		return nil, err
	}
	return s, nil
}

// Open connects, finds or creates stream and consumer, and makes sure that
// what an earlier session left unacknowledged comes first.
func (s *Source) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil {
		return err
	}
	conn, err := connect(ctx, &s.address, "pg_tide source "+s.deps.Pipeline)
	if err != nil {
		return err
	}
	opened, err := s.open(ctx, conn)
	if err != nil {
		conn.close()
		return err
	}
	go opened.measureBacklog(s.measures)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = opened
	return nil
}

func (s *Source) open(ctx context.Context, conn *connection) (*session, error) {
	finder := &streamFinder{conn: conn, settings: s.settings, log: s.log}
	stream, err := finder.find(ctx, s.consumer.filters)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	resumes, mark, settings := s.resumes, s.mark, s.consumer
	s.mu.Unlock()
	settings.claim = mark.Claim
	if mark.Origin == originOf(stream, &settings) && stream.Config.Retention == jetstream.LimitsPolicy {
		settings.known = mark.Sequence
	}
	consumer, err := conn.ensureConsumer(ctx, stream, &settings)
	if err != nil {
		return nil, err
	}
	r := &resumption{conn: conn, stream: stream, settings: &settings, mark: mark, log: s.log}
	if consumer, err = r.recover(ctx, consumer); err != nil {
		return nil, err
	}
	next, due, err := conn.settle(ctx, consumer, &settings)
	if err != nil {
		return nil, err
	}
	opened := newSession(conn, stream, consumer, &settings, next, due)
	if resumes {
		err = opened.remember(ctx, r)
	}
	return opened, err
}

// Fetch waits until there is something, and returns at most limit envelopes
// without waiting for more.
func (s *Source) Fetch(ctx context.Context, limit int) (message.Delivery, error) {
	s.mu.Lock()
	current := s.session
	s.mu.Unlock()
	if current == nil {
		return message.Delivery{}, errors.New("fetch from NATS before the source was opened")
	}
	return current.fetch(ctx, limit)
}

// Close hands back what was not acknowledged and drops the connection; it may
// be called twice, or before Open.
func (s *Source) Close(ctx context.Context) error {
	s.Backlog() // before what was not acknowledged is handed back
	s.mu.Lock()
	current := s.session
	s.session = nil
	s.mu.Unlock()
	if current != nil {
		current.close(ctx)
	}
	return nil
}
