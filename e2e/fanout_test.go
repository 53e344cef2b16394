package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// fan is one outbox whose events go to a broker, a file and two other
// databases, each by a pipeline of its own.
type fan struct {
	*service
	path      string
	far, slow *service
	server    *throwaway.Server // of far
}

func newFan(t *testing.T) *fan {
	t.Helper()
	f := &fan{service: retaining(t, startBroker(t).URL()), path: filepath.Join(t.TempDir(), "shop.jsonl"), slow: newService(t)}
	f.slow.execute(t, `create extension pg_tide`)
	f.slow.execute(t, `select tide.inbox_create('shop')`)
	f.server = pgtest.Own(t, throwaway.Options{Durable: true})
	dsn := f.server.DSN("postgres")
	if err := schematest.Install(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	f.far = &service{dsn: dsn, typed: pgtest.Conn(t, dsn), pool: pgtest.Pool(t, dsn)}
	f.far.execute(t, `select tide.inbox_create('shop')`)
	f.execute(t, `select tide.relay_set_outbox('shop-to-file', 'shop', jsonb_build_object('sink_type', 'file', 'path', $1::text))`, f.path)
	f.execute(t, `select tide.relay_set_outbox('shop-to-far', 'shop', jsonb_build_object('sink_type', 'pg_inbox', 'url', $1::text, 'inbox', 'shop'))`, dsn)
	f.pace(t, 1e6)
	return f
}

// pace says how many events a second go to the slow one.
func (f *fan) pace(t *testing.T, perSecond float64) {
	t.Helper()
	f.execute(t, `select tide.relay_set_outbox('shop-to-slow', 'shop', jsonb_build_object('sink_type', 'pg_inbox', 'url', $1::text, 'inbox', 'shop',
		'rate_limit', jsonb_build_object('max_messages_per_second', $2::float8)))`, f.slow.dsn, perSecond)
}

func (f *fan) publishMany(t *testing.T, from, until int) {
	t.Helper()
	f.execute(t, `insert into ledger select tide.outbox_publish('shop', 'shop', jsonb_build_object('order_id', n::text, 'event_type', 'x')) from generate_series($1::integer, $2::integer) n`, from, until)
}

func (f *fan) awaitLines(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() (bool, string) {
		text, _ := os.ReadFile(f.path) // none is an empty one
		lines := bytes.Count(text, []byte("\n"))
		return lines >= n, fmt.Sprintf("the file has %d of %d lines; status: %s", lines, n, f.status(t))
	})
}

// holders are the pipelines that hold back the outbox's retention.
func (s *service) holders(t *testing.T) string {
	t.Helper()
	return one[string](t, s, `select coalesce(string_agg(r.pipeline, ' ' order by r.pipeline), 'nobody') from tide.relay_status r where r.holds_retention_since is not null`)
}

// A dead pipeline and a slow one delay no other; each says what it waits for
// and what it holds back, and catches up by itself.
func TestOfOneOutboxsPipelinesADeadAndASlowOneDelayNobody(t *testing.T) {
	t.Parallel()
	f := newFan(t)
	startRelay(t, f.dsn)
	f.publishMany(t, 1, 200)
	f.awaitAllBack(t)
	f.awaitLines(t, 200)
	f.far.arrived(t, "shop", 200)
	f.slow.arrived(t, "shop", 200)

	if err := f.server.Crash(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.pace(t, 0.1)
	const all = 1500
	f.publishMany(t, 201, all)
	f.awaitAllBack(t)
	f.awaitLines(t, all)
	if n := len(f.slow.inbox(t, "shop")); n >= all {
		t.Errorf("the slow one has %d events, and was told to take its time", n)
	}
	f.awaitStatus(t, "shop-to-far", `r.state = 'waiting' and r.reason like '%database "postgres" at 127.0.0.1:%'`)
	f.awaitStatus(t, "shop-to-nats", `r.state = 'running' and r.lag_events = 0`)
	f.awaitStatus(t, "shop-to-file", `r.state = 'running' and r.lag_events = 0`)
	f.awaitStatus(t, "shop-to-slow", `r.state = 'running' and r.lag_events > 1000`)
	f.awaitStatus(t, "shop-to-far", fmt.Sprintf(`r.lag_events = %d`, all-200))
	if got := f.holders(t); got != "shop-to-far shop-to-slow" {
		t.Errorf("the retention is held back by %s", got)
	}

	f.pace(t, 1e6)
	if got := f.slow.arrived(t, "shop", all); got[all-1] != fmt.Sprintf("%d x", all) {
		t.Errorf("the slow one's last event is %q", got[all-1])
	}
	eventually(t, func() (bool, string) {
		return f.holders(t) == "shop-to-far", "the dead one alone holds: " + f.holders(t)
	})

	if err := f.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.far.pool.Reset()
	eventually(t, func() (bool, string) { return f.far.pool.Ping(t.Context()) == nil, "the far one answers again" })
	got := f.far.arrived(t, "shop", all)
	for i := range got {
		if want := fmt.Sprintf("%d x", i+1); len(got) != all || got[i] != want {
			t.Fatalf("the far one has %d events, and %q at place %d, want %d and %q", len(got), got[i], i, all, want)
		}
	}
	eventually(t, func() (bool, string) { return f.holders(t) == "nobody", "nobody holds any more: " + f.holders(t) })
}
