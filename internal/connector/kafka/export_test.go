package kafka

import "time"

// Crash ends a source's session as the death of its process would: the
// connections go, and nothing is said to the group.
func Crash(s *Source) {
	s.mu.Lock()
	current := s.session
	s.mu.Unlock()
	if current != nil {
		current.conn.close() // a member with a name of its own never says that it leaves
	}
}

// CrashSink ends a sink's session without a word about what is under way.
func CrashSink(s *Sink) {
	if p, err := s.current(); err == nil {
		p.conn.close()
	}
}

// WaitAtMost is how long partitions that are to go to another member wait for
// what is in flight.
func WaitAtMost(s *Source, patience time.Duration) { s.patience = patience }

// MeasureEvery is how often a source asks for its backlog.
func MeasureEvery(s *Source, interval time.Duration) { s.measures = interval }
