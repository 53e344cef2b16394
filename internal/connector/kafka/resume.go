package kafka

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// ResumeFrom says, before Open, what the database remembers of the topics.
func (s *Source) ResumeFrom(mark message.Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumes, s.mark = true, mark
}

// taken says how far partitions are taken in: the offset behind the last
// message, by the topic's id and the partition. A topic that is deleted and
// made again has another id.
type taken map[string]map[int32]int64

func (t taken) set(id kadm.TopicID, partition int32, offset int64) {
	name := hex.EncodeToString(id[:])
	if t[name] == nil {
		t[name] = map[int32]int64{}
	}
	t[name][partition] = offset
}

func (t taken) forget(id kadm.TopicID, partition int32) {
	delete(t[hex.EncodeToString(id[:])], partition)
}

func (t taken) at(id kadm.TopicID, partition int32) (offset int64, known bool) {
	offset, known = t[hex.EncodeToString(id[:])][partition]
	return offset, known
}

// mark is what the database shall remember. Its sequence only lets people see
// that it moves: the sum of all offsets.
func (t taken) mark(origin string) message.Mark {
	m := message.Mark{Origin: origin}
	for _, partitions := range t {
		for _, offset := range partitions {
			m.Sequence += uint64(max(0, offset))
		}
	}
	text, err := json.Marshal(t)
	if err != nil {
		return message.Mark{} // nothing in it can fail
	}
	m.Places = string(text)
	return m
}

// originOf names for ever what a pipeline's marks are about.
func originOf(ctx context.Context, conn *connection, group string) (string, error) {
	asked, cancel := conn.request(ctx)
	defer cancel()
	metadata, err := conn.admin.BrokerMetadata(asked)
	if err != nil {
		return "", conn.explain("ask which cluster this is", "the cluster", answer(asked, err))
	}
	return "kafka:" + metadata.Cluster + ":" + group, nil
}

// signature is what a pipeline writes beside the offsets that it commits. By it
// a pipeline knows its own from those of another database in the group, and
// from those that somebody set by hand.
func signature(reader string, claim int64) string {
	return "pg_tide " + reader + " " + strconv.FormatInt(claim, 10)
}

// signed returns the claim of whoever committed an offset, if that was this
// pipeline, in this database or in a copy of it.
func signed(metadata, reader string) (claim int64, own bool) {
	text, own := strings.CutPrefix(metadata, "pg_tide "+reader+" ")
	if !own {
		return 0, false
	}
	claim, err := strconv.ParseInt(text, 10, 64)
	return claim, err == nil
}

// resumption compares what the group was told with what the database has.
//
// Without it: a database is promoted, or restored, without the last messages of
// its inbox. Their offsets were committed, so the group goes on behind them.
type resumption struct {
	conn     *connection
	group    string
	reader   string // this pipeline's name as a member, in any copy of the database
	pipeline string
	origin   string
	topics   map[string]kadm.TopicID
	mark     message.Mark
	log      *slog.Logger
}

// loss is one partition whose offset is ahead of the database.
type loss struct {
	at        place
	has, told int64 // offsets: the database's, the group's
	first     int64 // that the partition still has
}

func (l *loss) String() string {
	return fmt.Sprintf("%s: committed up to %d, taken in up to %d", l.at, l.told, l.has)
}

// recover sets offsets back where the database lost something, and returns what
// is taken in. It is called before the session joins the group.
func (r *resumption) recover(ctx context.Context) (taken, error) {
	remembered, known := taken{}, r.mark.Places != "" && r.mark.Origin == r.origin
	if known {
		if err := json.Unmarshal([]byte(r.mark.Places), &remembered); err != nil {
			return nil, fmt.Errorf("read what the database remembers of group %s: %w", r.group, err)
		}
	}
	committed, err := r.conn.committed(ctx, r.group, slices.Collect(maps.Keys(r.topics)))
	if err != nil {
		return nil, err
	}
	var lost, unknown []loss
	for _, o := range committed.Sorted() {
		has, remembers := remembered.at(r.topics[o.Topic], o.Partition)
		claim, own := signed(o.Metadata, r.reader)
		l := loss{at: place{o.Topic, o.Partition}, has: has, told: o.At}
		switch {
		case own && claim > r.mark.Claim:
			return nil, r.takenOver()
		case !known || o.At <= has:
		case own && remembers:
			lost = append(lost, l)
		case own || remembers: // it came from another member since, or went to one
			unknown = append(unknown, l)
			remembered.forget(r.topics[o.Topic], o.Partition)
		}
	}
	if len(unknown) > 0 && r.mark.Moved {
		return nil, r.unknownLoss(unknown)
	}
	if len(lost) == 0 {
		return remembered, nil
	}
	return remembered, r.rewind(ctx, lost)
}

// begin notes where partitions begin that are this member's from now on: what
// comes behind is taken in here. It is called before they are read.
func (s *session) begin(ctx context.Context, partitions map[string][]int32) {
	if s.origin == "" || len(partitions) == 0 {
		return
	}
	if err := s.readBeginnings(ctx, partitions); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = err
	}
}

func (s *session) readBeginnings(ctx context.Context, partitions map[string][]int32) error {
	names := slices.Collect(maps.Keys(partitions))
	committed, err := s.conn.committed(ctx, s.group, names)
	if err != nil {
		return err
	}
	first, err := s.conn.first(ctx, names)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, numbers := range partitions {
		for _, number := range numbers {
			if _, known := s.taken.at(s.ids[topic], number); known {
				continue // since an earlier session
			}
			if o, found := committed.Lookup(topic, number); found {
				s.taken.set(s.ids[topic], number, o.At)
			} else if o, found := first.Lookup(topic, number); found {
				s.taken.set(s.ids[topic], number, o.Offset)
			}
		}
	}
	return nil
}

// committed returns the offsets that a group has committed.
func (c *connection) committed(ctx context.Context, group string, topics []string) (kadm.Offsets, error) {
	asked, cancel := c.request(ctx)
	defer cancel()
	responses, err := c.admin.FetchOffsetsForTopics(asked, group, topics...)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, c.explain("read the offsets of group "+group, "group "+group, answer(asked, err))
	}
	all := kadm.Offsets{}
	for _, o := range responses.Sorted() {
		if o.Err == nil && o.At >= 0 {
			all.Add(o.Offset)
		}
	}
	return all, nil
}

// first returns the offsets where topics begin.
func (c *connection) first(ctx context.Context, topics []string) (kadm.ListedOffsets, error) {
	asked, cancel := c.request(ctx)
	defer cancel()
	listed, err := c.admin.ListStartOffsets(asked, topics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, c.explain("look where the topics begin", "the topics", answer(asked, err))
	}
	return listed, nil
}

// rewind commits the offsets that the database has. The group must have no
// members for that, and has none if the relay that wrote them is gone: a member
// with this pipeline's name is a relay that was killed just now, until the group
// forgets it, or that of the original whose copy this database is. Its place is
// not taken before that is known.
func (r *resumption) rewind(ctx context.Context, lost []loss) error {
	if err := r.gap(ctx, lost); err != nil {
		return err
	}
	asked, cancel := r.conn.request(ctx)
	defer cancel()
	described, err := r.conn.admin.DescribeGroups(asked, r.group)
	if err == nil {
		err = described.Error()
	}
	doing := "set group " + r.group + " back to what the database has"
	if err != nil {
		return r.conn.explain(doing, "group "+r.group, answer(asked, err))
	}
	for _, m := range described[r.group].Members {
		return r.readByAnother(lost, &m)
	}
	offsets := kadm.Offsets{}
	for _, l := range lost {
		offsets.Add(kadm.Offset{Topic: l.at.topic, Partition: l.at.partition, At: l.has, LeaderEpoch: -1, Metadata: signature(r.reader, r.mark.Claim)})
		r.log.Warn("the database lost messages whose offsets it had committed; reading them again", "group", r.group,
			"topic", l.at.topic, "partition", l.at.partition, "from", l.has, "committed", l.told)
	}
	responses, err := r.conn.admin.CommitOffsets(asked, r.group, offsets)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return r.conn.explain(doing, "group "+r.group, answer(asked, err))
	}
	return nil
}

// gap fails when the brokers have removed what the database lost.
func (r *resumption) gap(ctx context.Context, lost []loss) error {
	var names []string
	for _, l := range lost {
		if !slices.Contains(names, l.at.topic) {
			names = append(names, l.at.topic)
		}
	}
	listed, err := r.conn.first(ctx, names)
	if err != nil {
		return err
	}
	var gone []loss
	for _, l := range lost {
		if first, found := listed.Lookup(l.at.topic, l.at.partition); found && first.Offset > l.has {
			l.first = first.Offset
			gone = append(gone, l)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	l := slices.MaxFunc(gone, func(a, b loss) int { return cmp.Compare(a.first-a.has, b.first-b.has) })
	return misconfigured("the inbox has %s up to offset %d, and group %s was told that it has it up to %d: the database lost what lies between, and the brokers have removed some of it (the partition begins at %d); "+
		"publish those events again if their services can (pg-tide rewind), then accept the gap: pg-tide pipeline adopt %s",
		l.at, l.has, r.group, l.told, l.first, r.pipeline)
}

func (r *resumption) readByAnother(lost []loss, m *kadm.DescribedGroupMember) error {
	name := m.MemberID
	if m.InstanceID != nil {
		name = *m.InstanceID
	}
	return delivery.RetryAfter(fmt.Errorf("group %s has committed offsets that this database does not have (%s), and has a member %s at %s: "+
		"if that is this pipeline's relay, which was killed, the group forgets it within %s; if it stays, this database is a copy and the original lives on: "+
		"stop one of the two relays, or give this pipeline a group_id of its own (pg-tide pipeline adopt %s goes on as the original's rival, without those messages); "+
		"another database's member has to stop until the offsets are set back", r.group, &lost[0], name, m.ClientHost, sessionTimeout, r.pipeline), 0)
}

func (r *resumption) unknownLoss(unknown []loss) error {
	return misconfigured("a standby was promoted, or the database restored to a point in time, since messages of group %s were taken in; partitions have gone to other members of the group, or come from them, since (%s), so what this database lost cannot be told from what went to the others; "+
		"if nothing was lost, or it was published again (pg-tide rewind): pg-tide pipeline adopt %s", r.group, &unknown[0], r.pipeline)
}

func (r *resumption) takenOver() error {
	return misconfigured("group %s was taken over by another copy of this database, whose pipeline was adopted later; "+
		"if this one is to read again: pg-tide pipeline adopt %s, else delete the pipeline here or give it another group_id", r.group, r.pipeline)
}
