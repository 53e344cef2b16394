package e2e

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
)

// broker is a real nats-server, a process of its own.
type broker struct{ server *natstest.Server }

// startBroker starts a broker until the test ends.
func startBroker(t *testing.T) *broker {
	t.Helper()
	return &broker{server: natstest.Start(t, natstest.Options{})}
}

// stoppedBroker has an address and does not run yet.
func stoppedBroker(t *testing.T) *broker {
	t.Helper()
	b := startBroker(t)
	b.server.Kill()
	return b
}

func (b *broker) URL() string { return b.server.URL() }

// Kill ends the broker as a crash would.
func (b *broker) Kill(t *testing.T) {
	t.Helper()
	b.server.Kill()
}

// Start starts the broker again, on the same port and files.
func (b *broker) Start(t *testing.T) {
	t.Helper()
	b.server.Restart(t)
}
