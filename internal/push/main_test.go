package push_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/push"
	"github.com/pg-tide/pg-tide/internal/run"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	patience = time.Minute
	relayID  = "aaaaaaaa-0000-0000-0000-000000000000"
	inbox    = "payments"
)

// request is one that a service got.
type request struct {
	id, key string
	body    string
	header  http.Header
}

// service is a real HTTP server that keeps what it got. Answer gives each
// request its answer; nil takes everything.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	got    []request
	taken  []request
	answer func(r *http.Request, one request) int
}

func startService(t *testing.T, answer func(r *http.Request, one request) int) *service {
	t.Helper()
	s := &service{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the request was cut off
		}
		one := request{id: r.Header.Get("webhook-id"), key: r.Header.Get("ce-subject"), body: string(body), header: r.Header.Clone()}
		s.mu.Lock()
		s.got = append(s.got, one)
		answer := s.answer
		s.mu.Unlock()
		status := http.StatusNoContent
		if answer != nil {
			status = answer(r, one)
		}
		if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "1")
		}
		if status/100 == 2 {
			s.mu.Lock()
			s.taken = append(s.taken, one)
			s.mu.Unlock()
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// ofKey are the ids that the service took of a key, in order.
func (s *service) ofKey(key string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, one := range s.taken {
		if one.key == key {
			ids = append(ids, one.id)
		}
	}
	return ids
}

// monitor keeps what a push tells.
type monitor struct {
	mu                   sync.Mutex
	inserted             chan struct{}
	state                pipeline.State
	reason               string
	reasons              []string
	pushed, failed, dead int
	lastError            string
	owns                 error
}

func (m *monitor) Owns() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owns
}
func (m *monitor) Inserted() <-chan struct{} { return m.inserted }
func (m *monitor) Waiting(state pipeline.State, reason string, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.reason, m.reasons = state, reason, append(m.reasons, reason)
}
func (m *monitor) Failed(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastError = err.Error()
}
func (m *monitor) Well() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.reason = pipeline.StateRunning, ""
}
func (m *monitor) Count(pushed, failed, dead int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pushed, m.failed, m.dead = m.pushed+pushed, m.failed+failed, m.dead+dead
}
func (m *monitor) now() (state pipeline.State, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.reason
}

// bench is an inbox and what pushes it.
type bench struct {
	pool    *pgxpool.Pool
	db      *catalog.Catalog
	spec    pipeline.Spec
	monitor *monitor
	task    *run.Task
}

func newBench(t *testing.T, major int) *bench {
	t.Helper()
	dsn := schematest.Database(t, major)
	b := &bench{pool: pgtest.Pool(t, dsn), monitor: &monitor{inserted: make(chan struct{}, 1)}}
	b.spec = schematest.Reverse(t, b.pool, inbox, relayID)
	var err error
	b.db, err = catalog.Open(t.Context(), catalog.Options{ConnString: dsn, Relay: catalog.RelayInfo{ID: relayID, Host: "h", PID: 1, Version: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.db.Close)
	return b
}

// start pushes to the service, with keys of the configuration besides.
func (b *bench) start(t *testing.T, s *service, options push.Options, keys map[string]any) {
	t.Helper()
	all := map[string]any{"url": s.URL, "allow_networks": "127.0.0.0/8"}
	for name, value := range keys {
		all[name] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	values, _, err := config.Decode(webhook.SendFields(4), text, config.Resolver{LookupEnv: os.LookupEnv, ReadFile: os.ReadFile})
	if err != nil {
		t.Fatal(err)
	}
	sender, err := webhook.NewSender(values)
	if err != nil {
		t.Fatal(err)
	}
	if options.Poll == 0 {
		options.Poll = 20 * time.Millisecond
	}
	pusher := push.New(b.db.Claims(b.spec), sender, wire.Binary{Spelling: wire.HTTP()}, options)
	b.task = run.Start(context.WithoutCancel(t.Context()), func(intake, work context.Context) error {
		return pusher.Push(intake, work, b.monitor)
	})
	task := b.task
	t.Cleanup(func() {
		task.Cancel(run.ErrStopped)
		if err := task.Wait(); err != nil {
			t.Errorf("the push ended with %v", err)
		}
	})
}

// stop lets the push end as a relay that is told to stop does.
func (b *bench) stop(grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	return b.task.Stop(ctx)
}

// deliver puts messages "<key>-<n>" for each key, in turns, into the inbox.
func (b *bench) deliver(t *testing.T, each int, keys ...string) {
	t.Helper()
	schematest.Exec(t, b.pool, `insert into tide.`+pgx.Identifier{inbox + "_inbox"}.Sanitize()+`
		(inbox_id, event_id, source, stream, key, op, event_type, payload, headers)
		select tide.inbox_id($1), k || '-' || n, '/x/orders', 'orders', nullif(k, ''), 'insert', 'orders.insert',
			jsonb_build_object('n', n), '{"traceparent": "00-1-2-3", "authorization": "secret"}'
		from generate_series(1, $2::int) n, unnest($3::text[]) with ordinality as u (k, place)
		order by n, place on conflict do nothing`, inbox, each, keys)
	select {
	case b.monitor.inserted <- struct{}{}:
	default:
	}
}

// count counts messages for which a condition holds.
func (b *bench) count(t *testing.T, condition string) (n int) {
	t.Helper()
	schematest.Query(t, b.pool, `select count(*) from tide.payments_inbox where `+condition, nil, &n)
	return n
}

func (b *bench) awaitCount(t *testing.T, condition string, want int) {
	t.Helper()
	eventually(t, condition, func() bool { return b.count(t, condition) == want })
}

// eventually asks until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			var stacks bytes.Buffer
			t.Fatalf("waited in vain until %s%s", what, stacks.String())
		}
	}
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
