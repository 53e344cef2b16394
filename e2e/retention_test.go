package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// retaining is a service that publishes to itself through the broker, so that
// one database knows what was committed and what arrived. Its events are older
// than the retention when they are published: only what is not delivered keeps them.
func retaining(t *testing.T, natsURL string) *service {
	t.Helper()
	s := newService(t)
	for _, sql := range []string{
		`create extension pg_tide`,
		`select tide.outbox_create('shop', retention => '1 minute')`,
		`alter table tide.outbox_event alter published_at set default clock_timestamp() - interval '1 hour'`,
		`select tide.inbox_create('back', ordered => false)`,
		`select tide.relay_set_outbox('shop-to-nats', 'shop', '{"sink_type": "nats", "url": "` + natsURL + `", "subject": "shop.events"}')`,
		`select tide.relay_set_inbox('nats-to-back', 'back', '{"source_type": "nats", "url": "` + natsURL + `", "subject": "shop.events", "durable_name": "back"}')`,
		`create table ledger (event_id text primary key)`,
	} {
		s.execute(t, sql)
	}
	return s
}

// turn maintains all the time, as if an hour passed in between, and counts the
// partitions that were emptied. The relays do it too, every three seconds.
func (s *service) turn(ctx context.Context) (emptied int) {
	again := time.NewTicker(30 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return emptied
		case <-again.C:
		}
		var n int
		_, err := s.pool.Exec(ctx, `update tide.outbox_part set used_since = used_since - interval '1 hour', retired_at = retired_at - interval '1 hour'`)
		if err == nil {
			err = s.pool.QueryRow(ctx, `select count(*) from tide.maintain() where action = 'emptied'`).Scan(&n)
		}
		if err != nil && ctx.Err() == nil {
			continue // two of them updated the same row
		}
		emptied += n
	}
}

// publishFor lets sessions publish in transactions that overlap.
func (s *service) publishFor(ctx context.Context, t *testing.T, sessions int) *sync.WaitGroup {
	var publishers sync.WaitGroup
	for i := range sessions {
		publishers.Go(func() {
			conn, err := pgx.Connect(t.Context(), s.dsn)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
			for n := 0; ctx.Err() == nil; n++ {
				_, err := conn.Exec(t.Context(), fmt.Sprintf(`begin;
					insert into ledger select tide.outbox_publish('shop', 'shop', '{}', key => 'k%d') from generate_series(1, %d);
					select pg_sleep(%f);
					%s`, i, 1+n%7, 0.01+float64(n%5)*0.01, []string{"commit", "commit", "commit", "rollback"}[n%4]))
				if err != nil {
					t.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	return &publishers
}

// awaitAllBack waits until every committed event is in the inbox.
func (s *service) awaitAllBack(t *testing.T) {
	t.Helper()
	eventually(t, func() (bool, string) {
		missing := one[int](t, s, `select count(*) from ledger l where not exists (select from tide.back_inbox m where m.event_id = l.event_id)`)
		return missing == 0, fmt.Sprintf("%d events have not arrived; status: %s", missing, s.status(t))
	})
}

// Partitions rotate and are emptied as fast as can be while relays and the
// broker are killed; what arrives must be all that was committed.
func TestPromise13RetentionDeletesNothingThatIsNotDelivered(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	s := retaining(t, broker.URL())
	relays := []*relay{startRelay(t, s.dsn), startRelay(t, s.dsn)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	turning, halt := context.WithCancel(t.Context())
	defer halt()
	emptied := make(chan int)
	go func() { emptied <- s.turn(turning) }()
	publishers := s.publishFor(ctx, t, 5)
	for round := range 4 {
		arrived := one[int](t, s, `select count(*) from tide.back_inbox`)
		eventually(t, func() (bool, string) {
			return one[int](t, s, `select count(*) from tide.back_inbox`) > arrived+100, "events arrive; status: " + s.status(t)
		})
		switch round % 2 {
		case 0:
			relays[round/2].kill(t)
			relays = append(relays, startRelay(t, s.dsn))
		case 1:
			broker.Kill(t)
			broker.Start(t)
		}
	}
	stop()
	publishers.Wait()
	s.awaitAllBack(t)
	halt()
	if n := <-emptied; n < 3 {
		t.Errorf("%d partitions were emptied, which proves little", n)
	}
	t.Logf("%d events arrived", one[int](t, s, `select count(*) from ledger`))
}

// A pipeline that cannot deliver holds back the retention, and is named
// wherever an operator looks; once it has delivered, the space comes back.
func TestPromise13TheStatusNamesWhoHoldsBackTheRetention(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	s := retaining(t, broker.URL())
	s.execute(t, `select tide.outbox_set('shop', warn_bytes => 100000)`)
	r := startRelay(t, s.dsn)
	s.awaitStatus(t, "shop-to-nats", `r.state = 'running'`)
	broker.Kill(t)
	s.execute(t, `insert into ledger select tide.outbox_publish('shop', 'shop', jsonb_build_object('pad', repeat(md5(g::text), 20))) from generate_series(1, 2000) g`)
	turning, halt := context.WithCancel(t.Context())
	defer halt()
	emptied := make(chan int)
	go func() { emptied <- s.turn(turning) }()
	s.awaitStatus(t, "shop-to-nats", `r.holds_retention_since < clock_timestamp() - interval '50 minutes'`)
	status, err := command(t, "status", "--postgres-url", s.dsn, "--check")
	if err == nil || !strings.Contains(status, `pipeline "shop-to-nats" holds back its retention since`) {
		t.Errorf("the command says %v:\n%s", err, status)
	}
	eventually(t, func() (bool, string) {
		text := r.log.String()
		return strings.Contains(text, "the outbox is larger than its limit") && strings.Contains(text, `"held_back_by":"shop-to-nats"`), "the log warns: " + text
	})
	eventually(t, func() (bool, string) {
		return strings.Contains(body(t, "http://"+r.address(t)+"/metrics"), `tide_outbox_held_seconds{outbox="shop"} 3`), "the metric says for how long"
	})
	if kept := one[int](t, s, `select count(*) from tide.outbox_event`); kept != 2000 {
		t.Errorf("%d of 2000 events are kept that could not be delivered", kept)
	}
	broker.Start(t)
	s.awaitAllBack(t)
	eventually(t, func() (bool, string) {
		bytes := one[int64](t, s, `select bytes from tide.outbox_retention`)
		return bytes < 200_000, fmt.Sprintf("the space comes back: %d bytes", bytes)
	})
	s.awaitStatus(t, "shop-to-nats", `r.holds_retention_since is null`)
	halt()
	<-emptied
}

func body(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text strings.Builder
	if err := response.Write(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
