package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// fetchBytes bounds what the client reads ahead from one broker.
	fetchBytes = 16 << 20
	// sessionTimeout is how long the group keeps a member's partitions for it
	// when it is gone. Another relay of the same database takes its place at once.
	sessionTimeout = 45 * time.Second
)

// sourceSettings are what a consumer is made with.
type sourceSettings struct {
	topics   topicSettings
	names    []string
	group    string
	instance string
	start    start
}

// Source reads topics as a member of a consumer group.
type Source struct {
	address  address
	settings sourceSettings
	deps     Deps
	log      *slog.Logger
	patience time.Duration // of a session
	measures time.Duration // between two questions for the backlog

	mu        sync.Mutex
	session   *session
	left      int64 // as it was last known
	leftKnown bool
	// resumes says that the database remembers how far it is, as mark says.
	resumes bool
	mark    message.Mark
}

// NewSource checks the configuration and connects to nothing.
func NewSource(values Values, deps Deps) (*Source, error) {
	s := &Source{deps: deps, log: deps.logger(), patience: revokeTimeout, measures: backlogInterval}
	var err error
	if s.address, err = readAddress(values); err != nil {
		return nil, err
	}
	s.settings, err = readSourceSettings(values, &deps)
	return s, err
}

func readSourceSettings(values Values, deps *Deps) (sourceSettings, error) {
	s := sourceSettings{names: listOf(values.String("topic")), group: values.String("group_id"), instance: deps.name()}
	var err error
	if s.topics, err = readTopicSettings(values); err != nil {
		return s, err
	}
	if len(s.names) == 0 {
		return s, misconfigured("topic is empty; write the name of the topic to read")
	}
	for _, name := range s.names {
		if problem := topicProblem(name); problem != "" {
			return s, misconfigured("topic %q cannot be read: %s", name, problem)
		}
	}
	if s.group == "" {
		s.group = deps.name()
	}
	s.start, err = readStart(values.String("start_offset"))
	return s, err
}

// Open connects, finds or creates the topics, and joins the group. The member
// has a name that is this pipeline's for ever (group.instance.id): whoever owns
// the pipeline next takes its place, and its partitions, at once, and the
// brokers refuse what the earlier one would still commit.
func (s *Source) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil {
		return err
	}
	opened := newSession(s.log, s.patience)
	conn, err := connect(ctx, &s.address, "pg_tide source "+s.deps.Pipeline, s.consumerOptions(opened)...)
	if err != nil {
		return err
	}
	opened.conn, opened.group = conn, s.settings.group
	if err := s.prepare(ctx, opened); err != nil {
		conn.close()
		return err
	}
	go opened.measureBacklog(s.measures, s.settings.group, s.settings.names)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = opened
	return nil
}

func (s *Source) prepare(ctx context.Context, opened *session) error {
	found := newTopics(opened.conn, s.settings.topics, s.log)
	if err := found.find(ctx, s.settings.names...); err != nil {
		return err
	}
	for _, name := range s.settings.names {
		opened.ids[name] = found.get(name).id
	}
	if err := s.settings.start.pin(ctx, opened.conn, s.settings.group, s.settings.names); err != nil {
		return err
	}
	if err := s.resume(ctx, opened); err != nil {
		return err
	}
	opened.conn.client.AddConsumeTopics(s.settings.names...)
	return nil
}

// resume compares the group's offsets with the database, before the session
// joins the group.
func (s *Source) resume(ctx context.Context, opened *session) error {
	s.mu.Lock()
	resumes, mark := s.resumes, s.mark
	s.mu.Unlock()
	if !resumes {
		return nil
	}
	origin, err := originOf(ctx, opened.conn, s.settings.group)
	if err != nil {
		return err
	}
	r := &resumption{conn: opened.conn, group: s.settings.group, reader: s.settings.instance, pipeline: s.deps.Pipeline,
		origin: origin, topics: opened.ids, mark: mark, log: s.log}
	known, err := r.recover(ctx)
	if err != nil {
		return err
	}
	opened.origin, opened.taken, opened.signature = origin, known, signature(s.settings.instance, mark.Claim)
	if mark.Moved { // so that it is compared with this timeline from now on
		baseline := known.mark(origin)
		opened.baseline = &baseline
	}
	return nil
}

func (s *Source) consumerOptions(opened *session) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(s.settings.group),
		kgo.InstanceID(s.settings.instance),
		kgo.SessionTimeout(sessionTimeout),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(opened.assigned),
		kgo.OnPartitionsRevoked(opened.revoked),
		kgo.OnPartitionsLost(opened.lost),
		// Partitions that nobody has a place in are read from their beginning:
		// those that were added, too. Where a new group starts is said by pin.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Else the last marker of a transaction would count as left for ever.
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetchBytes),
	}
}

// Fetch waits until there is something, and returns at most limit envelopes.
func (s *Source) Fetch(ctx context.Context, limit int) (message.Delivery, error) {
	s.mu.Lock()
	current := s.session
	s.mu.Unlock()
	if current == nil {
		return message.Delivery{}, errors.New("fetch from Kafka before the source was opened")
	}
	return current.fetch(ctx, limit)
}

// Close drops the connection; it may be called twice, or before Open.
func (s *Source) Close(context.Context) error {
	s.Backlog() // as long as the partitions are this member's
	s.mu.Lock()
	current := s.session
	s.session = nil
	s.mu.Unlock()
	if current != nil {
		current.close()
	}
	return nil
}

// start is where a new group starts.
type start struct {
	latest bool
	at     time.Time // not zero: the first message at or after it
}

func readStart(text string) (start, error) {
	switch text {
	case "", "earliest", "all":
		return start{}, nil
	case "latest", "new":
		return start{latest: true}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return start{}, misconfigured("start_offset %q is none of earliest, latest and an RFC 3339 time; write one of them", text)
	}
	return start{at: at}, nil
}

// pin commits where a new group starts, where that is not the beginning.
//
// Without it: a group starts at the end, the relay ends before the first
// message comes, and starts again at what is the end by then: what was sent
// meanwhile is never read.
func (s start) pin(ctx context.Context, conn *connection, group string, names []string) error {
	if !s.latest && s.at.IsZero() {
		return nil
	}
	asked, cancel := conn.request(ctx)
	defer cancel()
	doing, what := "set where group "+group+" starts", "group "+group
	committed, err := conn.admin.FetchOffsetsForTopics(asked, group, names...)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return conn.explain(doing, what, answer(asked, err))
	}
	var listed kadm.ListedOffsets
	if s.latest {
		listed, err = conn.admin.ListEndOffsets(asked, names...)
	} else {
		listed, err = conn.admin.ListOffsetsAfterMilli(asked, s.at.UnixMilli(), names...)
	}
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return conn.explain(doing, "the topics", answer(asked, err))
	}
	missing := kadm.Offsets{}
	listed.Each(func(o kadm.ListedOffset) {
		if known, found := committed.Lookup(o.Topic, o.Partition); !found || known.At < 0 {
			missing.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, At: o.Offset, LeaderEpoch: -1})
		}
	})
	if len(missing) == 0 {
		return nil
	}
	responses, err := conn.admin.CommitOffsets(asked, group, missing)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return conn.explain(fmt.Sprintf("%s (its other members have to stop for that)", doing), what, answer(asked, err))
	}
	return nil
}
