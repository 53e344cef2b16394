package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/process"
)

// service is one database with its relay.
type service struct {
	world          *world
	name, database string
	dsn            string
	conn           *pgx.Conn
	relay          *process.Process
	log            tail
}

// startRelay runs the relay of the service, as a user would.
func (s *service) startRelay(ctx context.Context) error {
	p, err := process.Start(ctx, process.Options{Program: s.world.options.Program, Arguments: []string{"run"}, Output: &s.log,
		Environment: []string{"PG_TIDE_POSTGRES_URL=" + s.dsn, "PG_TIDE_HTTP_ADDR=127.0.0.1:0", "PG_TIDE_LOG_FORMAT=text"}})
	if err != nil {
		return fmt.Errorf("start the relay of %s: %w", s.name, err)
	}
	s.relay = p
	return nil
}

func (s *service) stopRelay() {
	if s.relay != nil {
		_ = s.relay.Terminate(closeTimeout) // what does not end is killed
		s.relay = nil
	}
}

func (s *service) close(ctx context.Context) {
	s.stopRelay()
	if s.conn != nil {
		_ = s.conn.Close(ctx) // the database goes as well
	}
}

// alive is an error when the relay has ended by itself.
func (s *service) alive() error {
	if s.relay == nil || s.relay.Running() {
		return nil
	}
	return fmt.Errorf("the relay of %s ended: %s", s.name, s.log.text())
}

// forward configures a pipeline from an outbox to a subject.
func (s *service) forward(ctx context.Context, pipeline, outbox, stream, subject string) error {
	return s.exec(ctx, relaySetOutboxSQL, pipeline, outbox, s.config(map[string]any{
		"sink_type": "nats", "stream": stream, "subject": subject, "lanes": s.world.options.Lanes,
	}))
}

// reverse configures a pipeline from a stream to an inbox.
func (s *service) reverse(ctx context.Context, pipeline, inbox, stream, subject string) error {
	return s.exec(ctx, relaySetInboxSQL, pipeline, inbox, s.config(map[string]any{
		"source_type": "nats", "stream": stream, "subject": subject, "durable_name": s.world.prefix + "_" + pipeline,
		"lanes": s.world.options.Lanes,
	}))
}

func (s *service) config(values map[string]any) string {
	values["url"] = s.world.natsURL
	text, _ := json.Marshal(values) // strings and numbers: it cannot fail
	return string(text)
}

func (s *service) exec(ctx context.Context, sql string, args ...any) error {
	if _, err := s.conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// fill puts events into an outbox, in transactions of some thousands.
func (s *service) fill(ctx context.Context, outbox string, events, size int) error {
	if err := s.exec(ctx, outboxCreateSQL, outbox); err != nil {
		return err
	}
	const step = 20_000
	for from := 1; from <= events; from += step {
		s.world.progress.show(fmt.Sprintf("filling the outbox: %d of %d", from-1, events))
		if err := s.exec(ctx, fillSQL, outbox, from, min(from+step-1, events), size); err != nil {
			return err
		}
	}
	return s.exec(ctx, "vacuum (analyze) tide.outbox_event")
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

// since is the rate of what has moved since a time.
func since(events int, begun time.Time) float64 { return float64(events) / time.Since(begun).Seconds() }
