package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// revoked waits until what is in flight of the partitions is dealt with, and
// gives them up. The client calls it before it lets go of them.
func (s *session) revoked(ctx context.Context, _ *kgo.Client, partitions map[string][]int32) {
	patience := time.NewTimer(s.patience)
	defer patience.Stop()
	for {
		s.mu.Lock()
		busy, changed := s.busy(partitions), s.changed
		if !busy {
			s.giveUp(partitions)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		select {
		case <-changed:
			continue
		case <-s.ended:
		case <-ctx.Done():
		case <-patience.C:
			s.log.Warn("partitions went to another member of the group before their messages were inserted; they are read again there", "group", s.group)
		}
		s.mu.Lock()
		s.giveUp(partitions)
		s.mu.Unlock()
		return
	}
}

// lost gives partitions up at once: they may be another member's already.
func (s *session) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = false
	s.giveUp(partitions)
}

// busy and giveUp want the lock to be held.
func (s *session) busy(partitions map[string][]int32) bool {
	for topic, numbers := range partitions {
		for _, number := range numbers {
			if c := s.claims[place{topic, number}]; c != nil && c.inFlight > 0 {
				return true
			}
		}
	}
	return false
}

func (s *session) giveUp(partitions map[string][]int32) {
	for topic, numbers := range partitions {
		for _, number := range numbers {
			at := place{topic, number}
			if c := s.claims[at]; c != nil {
				c.gone = true
				delete(s.claims, at)
			}
			s.taken.forget(s.ids[topic], number) // what others take in of it says nothing about this database
		}
	}
}
