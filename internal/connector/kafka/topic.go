package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// defaultMaxBatch is a topic's max.message.bytes when it cannot be asked for.
	defaultMaxBatch = 1_048_588
	// mostBatch bounds a batch whatever the topic takes.
	mostBatch = 16 << 20
)

// topic is what a session knows of a topic.
type topic struct {
	name       string
	id         kadm.TopicID
	partitions int32
	replicas   int
	// maxBatch is max.message.bytes: the most that the topic takes in one batch.
	maxBatch int
	// minInsync is min.insync.replicas; 0 when it is not known.
	minInsync int
}

// topics finds the topics of a session, creates those that are missing, and
// remembers them until the session ends: a topic that gets more partitions
// keeps the places of its keys until then.
type topics struct {
	conn     *connection
	settings topicSettings
	log      *slog.Logger

	mu    sync.RWMutex
	known map[string]*topic
}

func newTopics(conn *connection, settings topicSettings, log *slog.Logger) *topics {
	return &topics{conn: conn, settings: settings, log: log, known: map[string]*topic{}}
}

// get returns a topic that is known.
func (t *topics) get(name string) *topic {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known[name]
}

// maxBatch is the most bytes of a batch; the client asks for it.
func (t *topics) maxBatch(name string) int32 {
	if known := t.get(name); known != nil {
		return int32(known.maxBatch + clientSlack) //nolint:gosec // mostBatch bounds it
	}
	return defaultMaxBatch
}

// find looks topics up, and creates what is missing.
func (t *topics) find(ctx context.Context, names ...string) error {
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return t.get(name) != nil })
	if len(missing) == 0 {
		return nil
	}
	ctx, cancel := t.conn.request(ctx)
	defer cancel()
	found, err := t.lookUp(ctx, missing)
	if err != nil {
		return err
	}
	for _, name := range missing {
		if _, there := found[name]; there {
			continue
		}
		if err := t.create(ctx, name); err != nil {
			return err
		}
	}
	if len(found) < len(missing) {
		if found, err = t.awaitCreated(ctx, missing); err != nil {
			return err
		}
	}
	if err := t.readConfigs(ctx, found); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, one := range found {
		t.known[name] = one
	}
	return nil
}

func (t *topics) lookUp(ctx context.Context, names []string) (map[string]*topic, error) {
	details, err := t.conn.admin.ListTopics(ctx, names...)
	if err != nil {
		return nil, t.conn.explain("look up the topics", "topic "+strings.Join(names, ", "), answer(ctx, err))
	}
	found := map[string]*topic{}
	for name, d := range details {
		switch {
		case errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			continue
		case errors.Is(d.Err, kerr.InvalidTopicException):
			return nil, misconfigured("topic %q is not a name Kafka allows: at most %d letters, digits, dots, _ and -", name, maxTopicName)
		case d.Err != nil && !errors.Is(d.Err, kerr.LeaderNotAvailable):
			return nil, t.conn.explain("look up the topic", "topic "+name, d.Err)
		case len(d.Partitions) == 0:
			continue // it is being created
		}
		found[name] = &topic{name: name, id: d.ID, partitions: int32(len(d.Partitions)), //nolint:gosec // partitions are few
			replicas: d.Partitions.NumReplicas(), maxBatch: defaultMaxBatch}
	}
	return found, nil
}

func (t *topics) create(ctx context.Context, name string) error {
	if problem := topicProblem(name); problem != "" {
		return misconfigured("topic %q cannot be created: %s", name, problem)
	}
	if !t.settings.create {
		return misconfigured("topic %q is missing and create_topic is false; create it, or leave out create_topic", name)
	}
	var configs map[string]*string
	if t.settings.minInsync > 0 {
		configs = map[string]*string{"min.insync.replicas": kadm.StringPtr(strconv.Itoa(t.settings.minInsync))}
	}
	response, err := t.conn.admin.CreateTopic(ctx, t.settings.partitions, t.settings.replicas, configs, name)
	if err == nil {
		err = response.Err
	}
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
		return nil
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return misconfigured("topic %q is missing and the brokers do not permit creating it; create it by hand, or grant the relay's user CREATE on the topic", name)
	case err != nil:
		return t.conn.explain(fmt.Sprintf("create topic %q", name), "topic "+name, answer(ctx, err))
	}
	t.log.Info("created a topic", "topic", name, "partitions", response.NumPartitions, "replication_factor", response.ReplicationFactor)
	return nil
}

// awaitCreated waits until the brokers know what was created: they hear of it
// one after the other.
func (t *topics) awaitCreated(ctx context.Context, names []string) (map[string]*topic, error) {
	for attempt := 0; ; attempt++ {
		found, err := t.lookUp(ctx, names)
		if err != nil || len(found) == len(names) {
			return found, err
		}
		if err := pause(ctx, backoff(attempt)); err != nil {
			return nil, fmt.Errorf("wait for topic %s to be created: %w", strings.Join(names, ", "), err)
		}
	}
}

// readConfigs reads the limits of topics. Who may not read them gets Kafka's defaults.
func (t *topics) readConfigs(ctx context.Context, found map[string]*topic) error {
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	resources, err := t.conn.admin.DescribeTopicConfigs(ctx, names...)
	var notAllowed *kadm.AuthError
	if errors.As(err, &notAllowed) {
		return nil
	}
	if err != nil {
		return t.conn.explain("read the topics' configuration", "topic "+strings.Join(names, ", "), answer(ctx, err))
	}
	for _, r := range resources {
		one := found[r.Name]
		if one == nil || r.Err != nil {
			continue
		}
		for _, c := range r.Configs {
			value, err := strconv.Atoi(c.MaybeValue())
			if err != nil {
				continue
			}
			switch c.Key {
			case "max.message.bytes":
				one.maxBatch = min(value, mostBatch)
			case "min.insync.replicas":
				one.minInsync = value
			}
		}
	}
	return nil
}

// answer replaces the error of a question that was cut short by why it was.
func answer(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	return err
}
