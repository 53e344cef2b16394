package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// backlogInterval is how often the brokers are asked for the ends of partitions
// of which nothing was fetched meanwhile.
const backlogInterval = 5 * time.Second

// extent says how much of a partition is left, in offsets; -1 is unknown.
type extent struct {
	start int64 // of the first record that the log still has
	done  int64 // behind what is acknowledged
	taken int64 // behind what was fetched, markers of transactions too
	end   int64 // behind what a reader of committed records may see
}

func unknownExtent() extent { return extent{start: -1, done: -1, taken: -1, end: -1} }

// saw takes in a part of a fetch. Each has the partition's ends with it, as they
// were when the client read ahead: the brokers may have been asked since.
func (e *extent) saw(p *kgo.FetchPartition) {
	first, last := p.Records[0], p.Records[len(p.Records)-1]
	if e.done < 0 {
		e.done = first.Offset
	}
	end := p.LastStableOffset
	if end < 0 { // an old broker, which has no transactions
		end = p.HighWatermark
	}
	e.taken, e.start, e.end = last.Offset+1, max(e.start, p.LogStartOffset), max(e.end, end)
}

// left counts what is not acknowledged. When nothing is in flight, what was
// fetched behind the last message were markers, which nobody acknowledges.
func (e *extent) left(inFlight int) (n int64, known bool) {
	done := max(e.done, e.start)
	if inFlight == 0 {
		done = max(done, e.taken)
	}
	if done < 0 || e.end < 0 {
		return 0, false
	}
	return max(0, e.end-done), true
}

// Backlog says how many messages of the partitions that this member has are not
// acknowledged. After Close it is what was so then.
func (s *Source) Backlog() (messages int64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		if n, known := s.session.backlog(); known {
			s.left, s.leftKnown = n, true
		}
	}
	return s.left, s.leftKnown
}

func (s *session) backlog() (messages int64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.joined {
		return 0, false
	}
	for _, c := range s.claims {
		n, known := c.left(c.inFlight)
		if !known {
			return 0, false
		}
		messages += n
	}
	return messages, true
}

// assigned notes which partitions are the member's; the client calls it after
// each balance of the group, and before it fetches.
func (s *session) assigned(ctx context.Context, _ *kgo.Client, partitions map[string][]int32) {
	s.begin(ctx, partitions)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = true
	for topic, numbers := range partitions {
		for _, number := range numbers {
			s.claim(place{topic, number})
		}
	}
	select {
	case s.measure <- struct{}{}:
	default:
	}
}

// measureBacklog asks the brokers while fetches do not tell: when the group was
// balanced, and now and then when the inbox takes nothing and so nothing is
// fetched. A reader that waits at the end of all partitions hears of each new
// message by itself, and does not ask.
func (s *session) measureBacklog(every time.Duration, group string, topics []string) {
	defer close(s.measured)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.ended
		cancel()
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for before := s.fetches.Load(); ; before = s.fetches.Load() {
		select {
		case <-s.ended:
			return
		case <-s.measure:
		case <-tick.C:
			left, known := s.backlog()
			if known && (s.fetches.Load() != before || s.waiting.Load() && left == 0) {
				continue
			}
		}
		if err := s.measureOnce(ctx, group, topics); err != nil && ctx.Err() == nil {
			s.log.Debug("the backlog is not known", "group", group, "error", err)
		}
	}
}

func (s *session) measureOnce(ctx context.Context, group string, topics []string) error {
	before := s.fetches.Load()
	committed, err := s.conn.committed(ctx, group, topics)
	if err != nil {
		return err
	}
	starts, err := s.conn.first(ctx, topics)
	if err != nil {
		return err
	}
	asked, cancel := s.conn.request(ctx)
	defer cancel()
	ends, err := s.conn.admin.ListCommittedOffsets(asked, topics...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, c := range s.claims {
		known := c.end
		c.ask(at, committed, starts, ends)
		if s.fetches.Load() != before {
			c.end = max(c.end, known) // a fetch may have told meanwhile, and later
		}
	}
	return nil
}

// ask takes in what the brokers answer. Where nothing is committed reading
// begins at the start.
func (e *extent) ask(at place, committed kadm.Offsets, starts, ends kadm.ListedOffsets) {
	start, found := starts.Lookup(at.topic, at.partition)
	if !found || start.Err != nil {
		return
	}
	end, found := ends.Lookup(at.topic, at.partition)
	if !found || end.Err != nil {
		return
	}
	e.start, e.end = start.Offset, end.Offset
	if e.done >= 0 {
		return
	}
	e.done = start.Offset
	if o, found := committed.Lookup(at.topic, at.partition); found {
		e.done = max(e.done, o.At)
	}
}
