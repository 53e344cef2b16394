package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafka is the broker of the demo: kfake, which franz-go is tested with,
// within this process and in memory; or one of the user's, in which topics and
// groups get names of ours and are removed at the end.
type kafka struct {
	embedded *kfake.Cluster // nil when the brokers are the user's
	brokers  string
	prefix   string
	client   *kgo.Client
	watching *task
	events   atomic.Int64
}

// groups are those of the services; topics what they read.
func (k *kafka) groups() []string {
	return []string{k.prefix + ".payment-service", k.prefix + ".shipping-service", k.prefix + ".shipping-service-stock"}
}

func (k *kafka) topics() []string { return []string{k.prefix + ".orders", k.prefix + ".stock"} }

// newKafka starts an embedded broker, or reaches brokers that there are.
func newKafka(ctx context.Context, brokers string) (*kafka, error) {
	k := &kafka{brokers: brokers, prefix: "events"}
	var err error
	if brokers == "" {
		if k.embedded, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(0), kfake.DefaultNumPartitions(4)); err != nil {
			return nil, fmt.Errorf("start Kafka: %w", err)
		}
		k.brokers = strings.Join(k.embedded.ListenAddrs(), ",")
	} else {
		k.prefix = "pgtide_demo_" + strings.ToLower(rand.Text()[:6])
	}
	k.client, err = kgo.NewClient(kgo.SeedBrokers(strings.Split(k.brokers, ",")...), kgo.ConsumeTopics(k.topics()...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err == nil {
		err = k.createTopics(ctx)
	}
	if err != nil {
		k.close()
		return nil, fmt.Errorf("use Kafka at %s: %w", k.brokers, err)
	}
	return k, nil
}

func (k *kafka) createTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	made, err := kadm.NewClient(k.client).CreateTopics(ctx, -1, -1, nil, k.topics()...)
	return errors.Join(err, made.Error())
}

func (k *kafka) name() string       { return busTitle(BusKafka) }
func (k *kafka) place() string      { return k.prefix + ".*" }
func (k *kafka) url() string        { return k.brokers }
func (k *kafka) inTutorial() string { return "kafka:9092" }
func (k *kafka) seen() int          { return int(k.events.Load()) }

func (k *kafka) pipelines(service string) string {
	text := query("kafka_" + service)
	if k.prefix != "events" {
		text = strings.ReplaceAll(text, `"events.`, `"`+k.prefix+`.`)
	}
	return text
}

func (k *kafka) watch(ctx context.Context, observe func(id string), failed func(error)) error {
	k.watching = begin(ctx, func(ctx context.Context) error {
		for ctx.Err() == nil {
			fetches := k.client.PollFetches(ctx)
			// What it does not get at once it asks for again.
			fetches.EachRecord(func(r *kgo.Record) {
				k.events.Add(1)
				for _, h := range r.Headers {
					if h.Key == "ce_id" {
						observe(string(h.Value))
					}
				}
			})
		}
		return nil
	}, failed)
	return nil
}

func (k *kafka) lost() error { return nil }

// close removes what was made in a broker of the user's.
func (k *kafka) close() {
	k.watching.stop()
	if k.client != nil {
		if k.embedded == nil {
			k.remove()
		}
		k.client.Close()
	}
	if k.embedded != nil {
		k.embedded.Close()
	}
}

func (k *kafka) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	admin := kadm.NewClient(k.client)
	// What cannot be removed has a name that tells where it is from.
	_, _ = admin.DeleteTopics(ctx, k.topics()...)
	_, _ = admin.DeleteGroups(ctx, k.groups()...)
}
