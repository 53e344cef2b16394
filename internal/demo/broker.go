package demo

import (
	"context"
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

func (b *broker) watch(_ context.Context, observe func(id string), _ func(error)) error {
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

func (b *broker) name() string       { return busTitle(BusNATS) }
func (b *broker) place() string      { return "events.>" }
func (b *broker) url() string        { return b.server.ClientURL() }
func (b *broker) inTutorial() string { return "nats://nats:4222" }
func (b *broker) seen() int          { return int(b.events.Load()) }

func (b *broker) pipelines(service string) string { return query("nats_" + service) }

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
