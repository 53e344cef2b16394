package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/torture/disk"
)

// The broker's disk is full in the midst of traffic. NATS then acknowledges
// nothing, and does not say why; it has to be started again when there is room.
// The pipeline waits, says for what, and goes on by itself.
func TestTheBrokersDiskIsFull(t *testing.T) {
	t.Parallel()
	d, err := disk.New(64 << 20)
	if errors.Is(err, disk.ErrNotAllowed) {
		t.Skipf("a broker with a small disk cannot be had here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	broker := &broker{server: natstest.Start(t, natstest.Options{StoreDir: d.Dir() + "/jetstream"})}
	f := newTraffic(t, extended(t), extended(t), broker.URL(), "")
	startRelay(t, f.orders.dsn)
	startRelay(t, f.payments.dsn)
	f.write(t, 3)
	f.awaitMore(t, 50)

	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	const why = `r.state = 'waiting' and r.reason like '%did not acknowledge an event%'`
	f.orders.awaitStatus(t, ordersPipeline, why)
	for range 20 { // it does not look well between two attempts
		f.pause(100 * time.Millisecond)
		if !one[bool](t, f.orders, `select bool_and(`+why+`) from tide.relay_status r`) {
			t.Fatalf("the disk is full and the status says %s", f.orders.status(t))
		}
	}
	if err := d.Free(); err != nil {
		t.Fatal(err)
	}
	broker.Kill(t)
	broker.Start(t)
	f.awaitMore(t, 50)
	f.settled(t)
}
