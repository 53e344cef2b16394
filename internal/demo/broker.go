package demo

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const brokerTimeout = 10 * time.Second

// broker is an embedded NATS with JetStream on disk.
type broker struct {
	server *server.Server
	conn   *nats.Conn
	events atomic.Int64
}

// startBroker listens on a free port of the loopback.
func startBroker(dir, name string) (*broker, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "pg-tide-" + name,
		Host:       "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: filepath.Join(dir, name),
		NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("set up NATS: %w", err)
	}
	s.Start()
	b := &broker{server: s}
	if !s.ReadyForConnections(brokerTimeout) {
		b.close()
		return nil, fmt.Errorf("start NATS: not ready after %s", brokerTimeout)
	}
	return b, nil
}

// watch counts what services publish and shows each id to the observer.
func (b *broker) watch(observe func(id string)) error {
	conn, err := nats.Connect("", nats.InProcessServer(b.server))
	if err != nil {
		return fmt.Errorf("watch NATS: %w", err)
	}
	b.conn = conn
	subscription, err := conn.Subscribe("events.>", func(m *nats.Msg) {
		b.events.Add(1)
		observe(m.Header.Get(nats.MsgIdHdr))
	})
	if err == nil {
		err = subscription.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = conn.FlushTimeout(brokerTimeout)
	}
	if err != nil {
		return fmt.Errorf("watch NATS: %w", err)
	}
	return nil
}

func (b *broker) url() string { return b.server.ClientURL() }

// lost says why the broker no longer works, if so.
func (b *broker) lost() error {
	if !b.server.Running() {
		return errors.New("the embedded NATS has stopped")
	}
	return nil
}

func (b *broker) close() {
	if b.conn != nil {
		b.conn.Close()
	}
	b.server.Shutdown()
	b.server.WaitForShutdown()
}
