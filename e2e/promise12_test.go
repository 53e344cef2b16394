package e2e

import (
	"sync"
	"testing"
	"time"
)

// SIGTERM finishes or hands back what is in flight within 5 seconds and loses
// nothing: in the midst of a flood, again and again.
func TestPromise12Graceful(t *testing.T) {
	t.Parallel()
	f := newTraffic(t, extended(t), extended(t), startBroker(t).URL(), "")
	f.write(t, 3)
	for range 3 {
		orders, payments := startRelay(t, f.orders.dsn), startRelay(t, f.payments.dsn)
		f.backlog(t, 3000)
		f.awaitMore(t, 500)
		endTogether(t, orders, payments)
		f.nothingIsHeld(t)
	}
	startRelay(t, f.orders.dsn)
	startRelay(t, f.payments.dsn)
	f.settled(t)
}

// With a broker that hangs nothing can be finished, and all is handed back.
func TestPromise12GracefulAlthoughTheBrokerHangs(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	f := newTraffic(t, extended(t), extended(t), broker.URL(), "")
	f.write(t, 3)
	orders, payments := startRelay(t, f.orders.dsn), startRelay(t, f.payments.dsn)
	f.awaitMore(t, 100)
	broker.server.Freeze(t)
	f.backlog(t, 3000)
	endTogether(t, orders, payments)
	f.nothingIsHeld(t)
	broker.server.Thaw(t)
	startRelay(t, f.orders.dsn)
	startRelay(t, f.payments.dsn)
	f.settled(t)
}

func endTogether(t *testing.T, relays ...*relay) {
	t.Helper()
	var all sync.WaitGroup
	for _, r := range relays {
		all.Go(func() {
			took := r.stop(t)
			t.Logf("the end took %s", took)
			if took > 5*time.Second {
				t.Errorf("the relay took %s to end; the promise is 5 s", took)
			}
		})
	}
	all.Wait()
}

// nothingIsHeld looks whether ownership was given back.
func (f *traffic) nothingIsHeld(t *testing.T) {
	t.Helper()
	for _, s := range []*service{f.orders, f.payments} {
		if held := one[int](t, s, `select (select count(*) from tide.pipeline_owner where relay_id is not null) + (select count(*) from tide.relay_instance)`); held > 0 {
			t.Errorf("a relay that ended is still known, or still owns a pipeline; status: %s", s.status(t))
		}
	}
}
