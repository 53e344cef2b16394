package push_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/push"
	"github.com/pg-tide/pg-tide/internal/run"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/wire"
)

// BenchmarkPush pushes messages of a hundred keys to a service on this machine
// that takes a while for each.
func BenchmarkPush(b *testing.B) {
	for _, takes := range []time.Duration{0, 20 * time.Millisecond} {
		for _, concurrency := range []int{8, 32} {
			b.Run(fmt.Sprintf("takes=%s/concurrency=%d", takes, concurrency), func(b *testing.B) { pushAll(b, takes, concurrency) })
		}
	}
}

func pushAll(b *testing.B, takes time.Duration, concurrency int) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if takes > 0 {
			timer := time.NewTimer(takes)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
			}
		}
	}))
	defer server.Close()
	dsn := schematest.Database(b, 0)
	pool := pgtest.Pool(b, dsn)
	spec := schematest.Reverse(b, pool, inbox, relayID)
	db, err := catalog.Open(context.Background(), catalog.Options{ConnString: dsn, Relay: catalog.RelayInfo{ID: relayID, Host: "h", PID: 1, Version: "test"}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	values, _, err := config.Decode(webhook.SendFields(concurrency), []byte(`{"url": "`+server.URL+`", "allow_networks": "127.0.0.1"}`), config.SystemResolver())
	if err != nil {
		b.Fatal(err)
	}
	sender, err := webhook.NewSender(values)
	if err != nil {
		b.Fatal(err)
	}
	schematest.Exec(b, pool, `insert into tide.payments_inbox (inbox_id, event_id, source, stream, key, op, event_type, payload)
		select tide.inbox_id($1), 'e' || n, '/x/orders', 'orders', 'k' || n % 100, 'insert', 'orders.insert', jsonb_build_object('n', n)
		from generate_series(1, $2::int) n`, inbox, b.N)
	m := &monitor{inserted: make(chan struct{}, 1)}
	b.ResetTimer()
	task := run.Start(context.Background(), func(intake, work context.Context) error {
		return push.New(db.Claims(spec), sender, wire.Binary{Spelling: wire.HTTP()}, push.Options{}).Push(intake, work, m)
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		m.mu.Lock()
		done := m.pushed
		m.mu.Unlock()
		if done >= b.N {
			break
		}
		<-tick.C
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	if err := task.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
}
