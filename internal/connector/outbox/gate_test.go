package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/catalog"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// sleeping is a reader that waits for its next page.
type sleeping struct {
	looks atomic.Int64
	got   chan []string
}

// sleep starts a read, which ends with the test at the latest.
func (b bus) sleep(t *testing.T) *sleeping {
	t.Helper()
	r := b.open(t)
	s := &sleeping{got: make(chan []string, 1)}
	inner := r.readPage
	r.readPage = func(ctx context.Context, request catalog.PageRequest) (catalog.Page, error) {
		s.looks.Add(1)
		return inner(ctx, request)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		page, err := r.Read(ctx, 10)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		s.got <- eventIDs(page.Messages)
	}()
	return s
}

func (s *sleeping) await(t *testing.T, want ...string) {
	t.Helper()
	select {
	case got := <-s.got:
		if !slices.Equal(got, want) {
			t.Fatalf("read %v, want %v", got, want)
		}
	case <-time.After(10 * time.Second): // a slow poll would take thirty
		t.Fatal("nobody woke the reader")
	}
}

// awaitGate waits until that many relays hold the lock of a sleeper.
func awaitGate(t *testing.T, b bus, holders int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		var n int
		err := b.pool.QueryRow(ctx, `select count(*) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock'
			and classid = 1953063013 and database = (select oid from pg_database where datname = current_database())`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n == holders {
			return
		}
	}
}

func TestASleepingReaderIsWokenByAPublisher(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	for range 3 {
		s := b.sleep(t)
		awaitGate(t, b, 1)
		id := schematest.Publish(t, b.pool, "orders", "k", "{}")
		s.await(t, id)
		awaitGate(t, b, 0)
		schematest.Exec(t, b.pool, "truncate tide.outbox_event")
	}
}

func TestTwentySleepingReadersAskNextToNothing(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	const readers = 20
	sleepers := []*sleeping{b.sleep(t)}
	for i := 1; i < readers; i++ {
		other := b
		other.spec = schematest.Forward(t, b.pool, fmt.Sprintf("outbox%d", i), relayID)
		sleepers = append(sleepers, other.sleep(t))
	}
	awaitGate(t, b, readers)
	looks := func() (n int64) {
		for _, s := range sleepers {
			n += s.looks.Load()
		}
		return n
	}
	before := looks()
	window(t, 2*time.Second)
	// The last look after the lock was taken may fall into the window.
	if n := looks() - before; n > readers {
		t.Errorf("%d looks in two seconds of sleep", n)
	}
	before = looks()
	window(t, 2*time.Second)
	if n := looks() - before; n > 0 {
		t.Errorf("%d looks in two more seconds of sleep", n)
	}
}

// window lets time pass that is measured, not waited for.
func window(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func TestAReaderIsWokenAfterItsListenerWasCutOff(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	s := b.sleep(t)
	awaitGate(t, b, 1)
	schematest.Exec(t, b.pool, `select pg_terminate_backend(l.pid) from pg_locks l where l.locktype = 'advisory' and l.mode = 'ExclusiveLock'`)
	id := schematest.Publish(t, b.pool, "orders", "k", "{}")
	s.await(t, id)
}

func TestReadersOfTwoRelaysOnOneOutboxAreBothWoken(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	other := b
	other.spec.ID = 0
	schematest.Query(t, b.pool, `insert into tide.pipeline (name, direction, outbox_id, config) values ('second', 'forward', $1, '{}') returning id`,
		[]any{b.spec.EndpointID}, &other.spec.ID)
	const relay = "22222222-2222-2222-2222-222222222222"
	schematest.Exec(t, b.pool, `insert into tide.pipeline_owner (pipeline_id, relay_id, fence) values ($1, $2, 1)`, other.spec.ID, relay)
	c, err := catalog.Open(t.Context(), catalog.Options{ConnString: b.dsn, Relay: catalog.RelayInfo{ID: relay}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	other.catalog = c

	first, second := b.sleep(t), other.sleep(t)
	awaitGate(t, b, 1)
	id := schematest.Publish(t, b.pool, "orders", "k", "{}")
	first.await(t, id)
	second.await(t, id)
}

func TestAReaderThatReliesOnAnotherRelaysLockNoticesThatRelaysDeath(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	other := pgtest.Conn(t, b.dsn)
	if _, err := other.Exec(t.Context(), "select pg_advisory_lock(1953063013, hashtext('orders'))"); err != nil {
		t.Fatal(err)
	}
	s := b.sleep(t)
	window(t, 2*time.Second)
	if n := s.looks.Load(); n > 20 {
		t.Errorf("%d looks while another relay sleeps", n)
	}
	other.Close(t.Context()) // as the server does for a relay that was killed
	id := schematest.Publish(t, b.pool, "orders", "k", "{}")
	s.await(t, id)
}

func TestALongOpenPublisherMakesNobodySpinAndDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	open, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Rollback(context.WithoutCancel(t.Context()))
	if _, err := open.Exec(t.Context(), `select tide.outbox_publish('orders', 'orders', '{}')`); err != nil {
		t.Fatal(err)
	}
	s := b.sleep(t)
	window(t, 2*time.Second)
	if n := s.looks.Load(); n < 10 || n > 120 {
		t.Errorf("%d looks in two seconds", n)
	}
	id := schematest.Publish(t, b.pool, "orders", "k", "{}")
	s.await(t, id)
}

func TestUnderLoadHardlyAnythingIsNotified(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, false)
	listener := pgtest.Conn(t, b.dsn)
	if _, err := listener.Exec(t.Context(), "listen tide_outbox"); err != nil {
		t.Fatal(err)
	}
	r := b.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		count := 0
		for {
			page, err := r.Read(ctx, 500)
			if err != nil {
				ended <- count
				return
			}
			count += len(page.Messages)
		}
	}()
	until := time.Now().Add(3 * time.Second)
	done := make(chan error)
	for range 8 {
		go func() {
			var err error
			for err == nil && time.Now().Before(until) {
				_, err = b.pool.Exec(ctx, `select tide.outbox_publish('orders', 'orders', '{}')`)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	cancel()
	count := <-ended
	schematest.Exec(t, b.pool, "select pg_notify('tide_outbox', 'end')")
	notified := 0
	for {
		n, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Payload == "end" {
			break
		}
		notified++
	}
	t.Logf("%d notifications for %d events", notified, count)
	if notified*100 > count {
		t.Errorf("%d notifications for %d events", notified, count)
	}
}

func TestWherePublishersDoNotNotifyTheReaderPolls(t *testing.T) {
	t.Parallel()
	b := newOwnBus(t, 0, true)
	s := b.sleep(t)
	window(t, 3*time.Second)
	before := s.looks.Load()
	window(t, 2*time.Second)
	if n := s.looks.Load() - before; n > 5 {
		t.Errorf("%d looks in two seconds at a quiet outbox", n)
	}
	id := schematest.Publish(t, b.pool, "orders", "k", "{}")
	s.await(t, id)
}
