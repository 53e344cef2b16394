package world

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-tide/pg-tide/internal/process"
)

// Service is one database with its relay.
type Service struct {
	Name, Database, DSN string
	// Conn is ours, for whatever has to be asked or said.
	Conn *pgx.Conn

	world *World
	relay *process.Process
	log   tail
}

// StartRelay runs the relay of the service, as a user would.
func (s *Service) StartRelay(ctx context.Context) error {
	p, err := process.Start(ctx, process.Options{Program: s.world.options.Program, Arguments: []string{"run"}, Output: &s.log,
		Environment: []string{"PG_TIDE_POSTGRES_URL=" + s.DSN, "PG_TIDE_HTTP_ADDR=127.0.0.1:0", "PG_TIDE_LOG_FORMAT=text"}})
	if err != nil {
		return fmt.Errorf("start the relay of %s: %w", s.Name, err)
	}
	s.relay = p
	return nil
}

func (s *Service) stopRelay() {
	if s.relay != nil {
		_ = s.relay.Terminate(closeTimeout) // what does not end is killed
		s.relay = nil
	}
}

func (s *Service) close(ctx context.Context) {
	s.stopRelay()
	if s.Conn != nil {
		_ = s.Conn.Close(ctx) // the database goes as well
	}
}

// Alive is an error when the relay has ended by itself.
func (s *Service) Alive() error {
	if s.relay == nil || s.relay.Running() {
		return nil
	}
	return fmt.Errorf("the relay of %s ended: %s", s.Name, s.log.text())
}

// Forward configures a pipeline from an outbox to a subject.
func (s *Service) Forward(ctx context.Context, pipeline, outbox, stream, subject string, shape Shape) error {
	return s.Exec(ctx, relaySetOutboxSQL, pipeline, outbox, config(map[string]any{
		"sink_type": "nats", "url": s.world.natsURL, "stream": stream, "subject": subject,
	}, shape))
}

// ForwardPaused configures one that EnablePipelines lets go.
func (s *Service) ForwardPaused(ctx context.Context, pipeline, outbox, stream, subject string, shape Shape) error {
	return s.Exec(ctx, relaySetOutboxPausedSQL, pipeline, outbox, config(map[string]any{
		"sink_type": "nats", "url": s.world.natsURL, "stream": stream, "subject": subject,
	}, shape))
}

// EnablePipelines lets all paused pipelines go at once.
func (s *Service) EnablePipelines(ctx context.Context) error { return s.Exec(ctx, relayEnableSQL) }

// Reverse configures a pipeline from a stream to an inbox.
func (s *Service) Reverse(ctx context.Context, pipeline, inbox, stream, subject string, shape Shape) error {
	return s.Exec(ctx, relaySetInboxSQL, pipeline, inbox, config(map[string]any{
		"source_type": "nats", "url": s.world.natsURL, "stream": stream, "subject": subject, "durable_name": s.world.Durable(pipeline),
	}, shape))
}

// Shape is what pipelines are configured with besides their ends.
type Shape struct {
	Lanes int
	// BatchSize is 0 for the default.
	BatchSize int
}

func config(values map[string]any, shape Shape) string {
	values["lanes"] = shape.Lanes
	if shape.BatchSize > 0 {
		values["batch_size"] = shape.BatchSize
	}
	text, _ := json.Marshal(values) // strings and numbers: it cannot fail
	return string(text)
}

// CreateOutbox creates an outbox.
func (s *Service) CreateOutbox(ctx context.Context, name string) error {
	return s.Exec(ctx, outboxCreateSQL, name)
}

// CreateInbox creates an inbox.
func (s *Service) CreateInbox(ctx context.Context, name string) error {
	return s.Exec(ctx, inboxCreateSQL, name)
}

// DeletePipeline removes a pipeline.
func (s *Service) DeletePipeline(ctx context.Context, name string) error {
	return s.Exec(ctx, relayDeleteSQL, name)
}

// Exec runs a statement.
func (s *Service) Exec(ctx context.Context, sql string, args ...any) error {
	if _, err := s.Conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

// PID is the process of the relay.
func (s *Service) PID() int { return s.relay.PID() }

// Fill puts events into an outbox, in transactions of some thousands.
func (s *Service) Fill(ctx context.Context, outbox string, events, size int) error {
	if err := s.fill(ctx, fillSQL, outbox, events, size); err != nil {
		return err
	}
	return s.Exec(ctx, "vacuum (analyze) tide.outbox_event")
}

// FillInbox puts messages into an inbox, processed ones or pending ones, and has
// the server write them out: what comes next does not wait for them.
func (s *Service) FillInbox(ctx context.Context, inbox string, messages, size int, processed bool) error {
	if err := s.fill(ctx, fillInboxSQL, inbox, messages, size, processed); err != nil {
		return err
	}
	if err := s.Exec(ctx, "vacuum (analyze) tide.inbox_message"); err != nil {
		return err
	}
	s.world.Progress.Show("writing " + inbox + " out")
	err := s.Exec(ctx, "checkpoint")
	var denied *pgconn.PgError
	if errors.As(err, &denied) && denied.Code == "42501" {
		return nil // on somebody's server; then the first claims have more to write
	}
	return err
}

func (s *Service) fill(ctx context.Context, sql, name string, rows int, more ...any) error {
	const step = 20_000
	for from := 1; from <= rows; from += step {
		s.world.Progress.Show(fmt.Sprintf("filling %s: %d of %d", name, from-1, rows))
		if err := s.Exec(ctx, sql, append([]any{name, from, min(from+step-1, rows)}, more...)...); err != nil {
			return err
		}
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 4 << 10

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - tailBytes; over > 0 {
		t.kept = bytes.Clone(t.kept[over:])
	}
	return len(b), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}
