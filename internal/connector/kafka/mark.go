package kafka

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// mostMarked is how many partitions a mark names at most: it is saved with
// each position.
const mostMarked = 200

// topicMark says how far a topic had got.
type topicMark struct {
	Topic string `json:"topic"`
	// ID is the topic's: one that was deleted and made again has another.
	ID string `json:"id"`
	// Offsets are those of the last event that was acknowledged, by partition.
	Offsets map[int32]int64 `json:"offsets"`
}

// marks take in what is acknowledged.
type marks struct {
	mu      sync.Mutex
	topics  map[string]*topicMark
	places  int
	changed bool
	text    string
}

// reset forgets an earlier session.
func (m *marks) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.topics, m.places, m.changed, m.text = nil, 0, false, ""
}

func (m *marks) note(in *topic, r *kgo.Record) {
	if in == nil || r.Offset < 0 || in.id == (kadm.TopicID{}) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	one := m.topics[in.name]
	if one == nil {
		if m.topics == nil {
			m.topics = map[string]*topicMark{}
		}
		one = &topicMark{Topic: in.name, ID: hex.EncodeToString(in.id[:]), Offsets: map[int32]int64{}}
		m.topics[in.name] = one
	}
	m.reach(one, r.Partition, r.Offset)
}

// reach takes in an offset. Marks only grow. The lock is held.
func (m *marks) reach(one *topicMark, partition int32, offset int64) {
	before, known := one.Offsets[partition]
	switch {
	case !known && m.places >= mostMarked:
		return
	case !known:
		m.places++
	case offset <= before:
		return
	}
	one.Offsets[partition] = offset
	m.changed = true
}

// build makes later marks have what an earlier one has.
func (m *marks) build(held []topicMark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range held {
		one := m.topics[held[i].Topic]
		if one == nil || one.ID != held[i].ID {
			if m.topics == nil {
				m.topics = map[string]*topicMark{}
			}
			one = &topicMark{Topic: held[i].Topic, ID: held[i].ID, Offsets: map[int32]int64{}}
			m.topics[one.Topic] = one
		}
		for partition, offset := range held[i].Offsets {
			m.reach(one, partition, offset)
		}
	}
}

// Mark says how far each partition has got with all that is acknowledged.
func (s *Sink) Mark() string {
	m := &s.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.changed {
		return m.text
	}
	all := make([]*topicMark, 0, len(m.topics))
	for _, one := range m.topics {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b *topicMark) int { return cmp.Compare(a.Topic, b.Topic) })
	text, err := json.Marshal(all)
	if err != nil {
		return "" // nothing in it can fail; without a mark nothing is concluded
	}
	m.text, m.changed = string(text), false
	return m.text
}

// Prove tells by a mark whether the topics still have what they acknowledged:
// a topic that was deleted and made again has another id, and a partition
// whose leader was elected out of sync ends before what it had acknowledged. It
// says nothing of topics that the sink does not write to any more.
func (s *Sink) Prove(ctx context.Context, mark string) (delivery.Proof, error) {
	p, err := s.current()
	if err != nil {
		return delivery.Proof{}, err
	}
	var all []topicMark
	if err := json.Unmarshal([]byte(mark), &all); err != nil {
		return delivery.Proof{}, nil // another sink's mark: it says nothing here
	}
	var names []string
	for i := range all {
		if s.writesTo(all[i].Topic) {
			names = append(names, all[i].Topic)
		}
	}
	if len(names) == 0 {
		return delivery.Proof{}, nil
	}
	asked, cancel := p.conn.request(ctx)
	defer cancel()
	details, err := p.conn.admin.ListTopics(asked, names...)
	if err != nil {
		return delivery.Proof{}, p.conn.explain("look what the topics have", "the topics", answer(asked, err))
	}
	var held []topicMark
	for i := range all {
		d, found := details[all[i].Topic]
		switch {
		case !found, errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			if s.writesTo(all[i].Topic) {
				return delivery.Proof{Lost: fmt.Sprintf("topic %s is gone, with what it had", all[i].Topic)}, nil
			}
			continue
		case d.Err != nil:
			return delivery.Proof{}, p.conn.explain("look what the topics have", "topic "+d.Topic, d.Err)
		case hex.EncodeToString(d.ID[:]) != all[i].ID:
			return delivery.Proof{Lost: fmt.Sprintf("topic %s was deleted and made again: what it had before is gone", d.Topic)}, nil
		}
		held = append(held, all[i])
	}
	if lost, err := p.lostEnd(asked, held); err != nil || lost != "" {
		return delivery.Proof{Lost: lost}, err
	}
	if s.settings.transactional {
		if err := s.settle(asked, p, held); err != nil {
			return delivery.Proof{}, err
		}
	}
	s.marks.build(held)
	return delivery.Proof{Holds: len(held) > 0}, nil
}

// lostEnd says in words which partition ends before what it had acknowledged, or "".
func (p *producer) lostEnd(ctx context.Context, held []topicMark) (string, error) {
	names := make([]string, len(held))
	for i := range held {
		names[i] = held[i].Topic
	}
	if len(names) == 0 {
		return "", nil
	}
	ends, err := p.conn.admin.ListEndOffsets(ctx, names...)
	if err != nil {
		return "", p.conn.explain("look where the topics end", "the topics", answer(ctx, err))
	}
	for i := range held {
		for partition, offset := range held[i].Offsets {
			at := place{held[i].Topic, partition}
			end, found := ends.Lookup(at.topic, partition)
			switch {
			case !found:
				return "", fmt.Errorf("the brokers do not say where %s ends", at)
			case end.Err != nil:
				return "", p.conn.explain("look where a partition ends", at.String(), end.Err)
			case end.Offset <= offset:
				return fmt.Sprintf("%s lost its end: it stops before offset %d, and had acknowledged %d", at, end.Offset, offset), nil
			}
		}
	}
	return "", nil
}
