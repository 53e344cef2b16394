package world

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	kafkaprocess "github.com/pg-tide/pg-tide/internal/broker/kafka"
	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

// readWait bounds the reading of all topics.
const readWait = 5 * time.Minute

// kafka is one broker of Apache Kafka, with a way in for each relay: the
// address that it tells a client is that of the proxy which the client came by.
type kafka struct {
	*kafkaprocess.Cluster
	proxies []*proxy.Proxy
	given   atomic.Int32
}

func startKafka(ctx context.Context, o Options, relays int) (*kafka, error) {
	k := &kafka{}
	programs, err := kafkaprocess.Fetch(ctx, o.Notices)
	if err != nil {
		return k, err
	}
	k.Cluster, err = kafkaprocess.New(ctx, programs, kafkaprocess.Options{Dir: o.Dir, Ways: relays, Optimize: true, Settings: map[string]string{
		"message.max.bytes": strconv.Itoa(maxPayload),
		// Events without a key are numbered by their session, and only one
		// partition keeps the order of those.
		"num.partitions": "1",
	}})
	if err != nil {
		return k, err
	}
	for i := range relays {
		p, err := proxy.Start(ctx, k.Nodes[0].Way(i))
		if err != nil {
			return k, err
		}
		k.proxies = append(k.proxies, p)
		k.Nodes[0].Tell(i, p.Address())
	}
	return k, k.Start(ctx)
}

// Name implements Bus.
func (k *kafka) Name() string { return "Kafka" }

// way hands out the next proxy; its relay closes it.
func (k *kafka) way(context.Context) (*proxy.Proxy, string, error) {
	n := int(k.given.Add(1)) - 1
	if n >= len(k.proxies) {
		return nil, "", fmt.Errorf("give a relay its way to Kafka: there are %d, and one more is asked for", len(k.proxies))
	}
	return k.proxies[n], k.proxies[n].Address(), nil
}

// topics are where the events of a subject are: one topic for each publishing
// service, for Kafka keeps no order between topics.
func topics(subject string) []string {
	switch subject {
	case "events.>":
		return []string{"events.orders", "events.stock"}
	default:
		return []string{strings.TrimSuffix(strings.TrimSuffix(subject, ".{op}"), ".>")}
	}
}

func (k *kafka) ends(s *Service) map[string]any {
	ends := map[string]any{"brokers": "${env:" + brokerVariable + "}"}
	topic := strings.Join(topics(s.Subject), ",")
	if s.Inbox == "" {
		ends["sink_type"], ends["topic"] = "kafka", topic
	} else {
		ends["source_type"], ends["topic"], ends["group_id"] = "kafka", topic, s.Name+"-service"
	}
	return ends
}

// ends of all topics, which are empty where there is no topic yet.
func (k *kafka) last(ctx context.Context, client *kgo.Client) (map[string]map[int32]kgo.Offset, uint64, error) {
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, topics("events.>")...)
	if err != nil && !kerr.IsRetriable(err) {
		return nil, 0, fmt.Errorf("ask for the topics: %w", err)
	}
	ends, all := map[string]map[int32]kgo.Offset{}, uint64(0)
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err == nil && o.Offset > 0 {
			if ends[o.Topic] == nil {
				ends[o.Topic] = map[int32]kgo.Offset{}
			}
			ends[o.Topic][o.Partition] = kgo.NewOffset().At(0)
			all += uint64(o.Offset)
		}
	})
	return ends, all, nil
}

func (k *kafka) connect(options ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(k.Addresses()...), kgo.ClientID("torture-looks-on"))...)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	return client, nil
}

// Last implements Bus.
func (k *kafka) Last(ctx context.Context) (uint64, error) {
	client, err := k.connect()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	_, all, err := k.last(ctx, client)
	return all, err
}

// Stored implements Bus.
func (k *kafka) Stored(ctx context.Context) ([]Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	client, err := k.connect()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	from, wanted, err := k.last(ctx, client)
	if err != nil || wanted == 0 {
		return nil, err
	}
	client.AddConsumePartitions(from)
	all := make([]Stored, 0, wanted)
	for uint64(len(all)) < wanted {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read the topics: %w", context.Cause(ctx))
		}
		fetches.EachRecord(func(r *kgo.Record) { all = append(all, storedOf(r)) })
	}
	return all, nil
}

func storedOf(r *kgo.Record) Stored {
	s := Stored{Place: r.Offset, Where: fmt.Sprintf("%s, partition %d", r.Topic, r.Partition), At: r.Timestamp}
	for _, h := range r.Headers {
		if h.Key == "ce_id" {
			s.ID = string(h.Value)
		}
	}
	return s
}

func (k *kafka) close() error {
	if k.Cluster != nil {
		k.Kill()
	}
	// Those that a relay had are closed with it, and may be closed again.
	for _, p := range k.proxies {
		p.Close()
	}
	return nil
}
