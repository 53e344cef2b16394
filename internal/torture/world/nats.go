package world

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/broker"
	"github.com/pg-tide/pg-tide/internal/torture/disk"
	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

// fetchWait bounds the wait for the next message of the stream.
const fetchWait = 5 * time.Second

// anySubject is one that the stream takes.
const anySubject = "events.orders.insert"

// nats is NATS with JetStream, in a process of its own.
type nats struct {
	*broker.Broker
	log *Log
}

func (w *World) startNATS(ctx context.Context) (*nats, error) {
	n := &nats{}
	var err error
	if n.log, err = NewLog(filepath.Join(w.options.Dir, "nats.log")); err != nil {
		return n, err
	}
	dir := filepath.Join(w.options.Dir, "nats")
	store := filepath.Join(dir, "store")
	if w.options.OwnDisk {
		if w.Disk, err = disk.New(diskBytes); err != nil {
			return n, err
		}
		store = filepath.Join(w.Disk.Dir(), "store")
	}
	if n.Broker, err = broker.New(ctx, broker.Options{
		Program: w.options.Program, Name: "torture", Dir: dir, Store: store, MaxPayload: maxPayload, Output: n.log,
	}); err != nil {
		return n, err
	}
	return n, n.Start(ctx)
}

// Name implements Bus.
func (n *nats) Name() string { return "NATS" }

func (n *nats) way(ctx context.Context) (*proxy.Proxy, string, error) {
	p, err := proxy.Start(ctx, n.Address())
	if err != nil {
		return nil, "", err
	}
	return p, "nats://" + p.Address(), nil
}

func (n *nats) ends(s *Service) map[string]any {
	ends := map[string]any{"url": "${env:" + brokerVariable + "}"}
	if s.Inbox == "" {
		ends["sink_type"], ends["subject_template"] = "nats", s.Subject
	} else {
		ends["source_type"], ends["subject"] = "nats", s.Subject
		ends["consumer_group"], ends["durable_name"] = s.Name+"-service", s.Name+"-service"
	}
	return ends
}

// stream runs work on the stream that the events are in. It does nothing when
// there is none yet.
func (n *nats) stream(ctx context.Context, work func(jetstream.JetStream, jetstream.Stream) error) error {
	nc, err := natsgo.Connect(n.URL(), natsgo.Name("torture-looks-on"), natsgo.Timeout(connectTimeout))
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	name, err := js.StreamNameBySubject(ctx, anySubject)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the stream: %w", err)
	}
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("open the stream %s: %w", name, err)
	}
	return work(js, stream)
}

// Last implements Bus.
func (n *nats) Last(ctx context.Context) (last uint64, err error) {
	err = n.stream(ctx, func(_ jetstream.JetStream, stream jetstream.Stream) error {
		info, err := stream.Info(ctx)
		if err == nil {
			last = info.State.LastSeq
		}
		return err
	})
	return last, err
}

// Stored implements Bus.
func (n *nats) Stored(ctx context.Context) (all []Stored, err error) {
	err = n.stream(ctx, func(_ jetstream.JetStream, stream jetstream.Stream) error {
		info, err := stream.Info(ctx)
		if err != nil || info.State.Msgs == 0 {
			return err
		}
		consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
		if err != nil {
			return err
		}
		messages, err := consumer.Messages()
		if err != nil {
			return err
		}
		defer messages.Stop()
		for {
			m, err := messages.Next(jetstream.NextMaxWait(fetchWait))
			if err != nil {
				return err
			}
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			all = append(all, Stored{ID: m.Headers().Get(natsgo.MsgIdHdr), Place: int64(meta.Sequence.Stream), At: meta.Timestamp, Where: m.Subject()})
			if meta.Sequence.Stream >= info.State.LastSeq {
				return nil
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read the stream: %w", err)
	}
	return all, nil
}

// Limit implements Limiter: JetStream refuses each message with the reason.
func (n *nats) Limit(ctx context.Context, full bool) error {
	return n.stream(ctx, func(js jetstream.JetStream, stream jetstream.Stream) error {
		info, err := stream.Info(ctx)
		if err != nil {
			return err
		}
		config := info.Config
		config.MaxBytes, config.Discard = -1, jetstream.DiscardOld
		if full {
			config.MaxBytes, config.Discard = int64(max(info.State.Bytes, 1)), jetstream.DiscardNew
		}
		_, err = js.UpdateStream(ctx, config)
		return err
	})
}

func (n *nats) close() error {
	if n.Broker != nil {
		n.Kill()
	}
	if n.log == nil {
		return nil
	}
	return n.log.Close()
}
