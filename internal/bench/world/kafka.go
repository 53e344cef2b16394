package world

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/broker/kafka"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// Kafka is the broker of a benchmark over Kafka, and what was made in it.
type Kafka struct {
	// Brokers is where clients connect, Version what the broker seems to be.
	Brokers, Version string

	cluster *kafka.Cluster // nil when it is the user's
	client  *kgo.Client
	admin   *kadm.Client
	prefix  string
	made    int
	topics  []string
	groups  []string
}

// Seeds are the addresses one by one.
func (k *Kafka) Seeds() []string { return strings.Split(k.Brokers, ",") }

func (w *World) reachKafka(ctx context.Context) (err error) {
	k := &Kafka{Brokers: w.options.Brokers, prefix: w.prefix}
	w.Kafka = k
	if k.Brokers == "" {
		programs, err := kafka.Fetch(ctx, w.options.Progress)
		if err != nil {
			return err
		}
		w.Progress.Say("starting Kafka")
		if k.cluster, err = kafka.New(ctx, programs, kafka.Options{Dir: w.dir, Optimize: true}); err != nil {
			return err
		}
		if err := k.cluster.Start(ctx); err != nil {
			return err
		}
		k.Brokers = strings.Join(k.cluster.Addresses(), ",")
	}
	if k.client, err = kgo.NewClient(kgo.SeedBrokers(k.Seeds()...), kgo.ClientID("pg-tide bench")); err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	k.admin = kadm.NewClient(k.client)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	versions, err := k.admin.ApiVersions(ctx)
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	versions.Each(func(v kadm.BrokerApiVersions) { k.Version = v.VersionGuess() })
	if k.cluster != nil {
		k.Version = kafka.Version
	}
	return nil
}

// NewTopic makes a topic of ours and returns its whole name.
func (k *Kafka) NewTopic(ctx context.Context, partitions int) (string, error) {
	k.made++
	topic := fmt.Sprintf("%s_%d", k.prefix, k.made)
	if _, err := k.admin.CreateTopic(ctx, int32(partitions), -1, nil, topic); err != nil { //nolint:gosec // at most as many as lanes
		return "", fmt.Errorf("create the topic %s: %w", topic, err)
	}
	k.topics = append(k.topics, topic)
	// Brokers and clients hear of it one after the other.
	for begun := time.Now(); ; {
		_, err := k.Stored(ctx, topic)
		if err == nil || !kerr.IsRetriable(err) || time.Since(begun) > connectTimeout {
			return topic, err
		}
		if err := retry.Sleep(ctx, retry.System{}, againPause); err != nil {
			return "", err
		}
	}
}

// RemoveTopic removes a topic.
func (k *Kafka) RemoveTopic(ctx context.Context, topic string) error {
	k.topics = slices.DeleteFunc(k.topics, func(other string) bool { return other == topic })
	if _, err := k.admin.DeleteTopic(ctx, topic); err != nil {
		return fmt.Errorf("remove the topic %s: %w", topic, err)
	}
	return nil
}

// NewGroup is the name of a consumer group of ours.
func (k *Kafka) NewGroup() string {
	k.made++
	group := fmt.Sprintf("%s_%d", k.prefix, k.made)
	k.groups = append(k.groups, group)
	return group
}

// Stored is how many records a topic holds.
func (k *Kafka) Stored(ctx context.Context, topic string) (int, error) {
	ends, err := k.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	stored := 0
	ends.Each(func(o kadm.ListedOffset) { stored += int(max(o.Offset, 0)) })
	if err != nil {
		return 0, fmt.Errorf("ask for the topic: %w", err)
	}
	return stored, nil
}

// Committed is how many records of a topic a group has done with.
func (k *Kafka) Committed(ctx context.Context, group, topic string) (int, error) {
	offsets, err := k.admin.FetchOffsets(ctx, group)
	if err != nil {
		return 0, fmt.Errorf("ask for the group: %w", err)
	}
	committed := 0
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == topic {
			committed += int(max(o.At, 0))
		}
	})
	return committed, nil
}

// close removes all that was made, and ends what was started.
func (k *Kafka) close(ctx context.Context) error {
	var failed []error
	if k.admin != nil {
		for _, topic := range slices.Clone(k.topics) {
			failed = append(failed, k.RemoveTopic(ctx, topic))
		}
		if k.cluster == nil && len(k.groups) > 0 {
			// A group that nothing was committed for is not there.
			_, err := k.admin.DeleteGroups(ctx, k.groups...)
			failed = append(failed, err)
		}
	}
	if k.client != nil {
		k.client.Close()
	}
	if k.cluster != nil {
		k.cluster.Kill()
	}
	return errors.Join(failed...)
}

// ToKafka configures a pipeline from an outbox to a topic.
func (s *Service) ToKafka(ctx context.Context, pipeline, outbox, topic string, shape Shape) error {
	return s.Exec(ctx, relaySetOutboxSQL, pipeline, outbox, config(map[string]any{
		"sink_type": "kafka", "brokers": s.world.Kafka.Brokers, "topic": topic,
	}, shape))
}

// FromKafka configures a pipeline from a topic to an inbox.
func (s *Service) FromKafka(ctx context.Context, pipeline, inbox, topic, group string, shape Shape) error {
	return s.Exec(ctx, relaySetInboxSQL, pipeline, inbox, config(map[string]any{
		"source_type": "kafka", "brokers": s.world.Kafka.Brokers, "topic": topic, "group_id": group,
	}, shape))
}
