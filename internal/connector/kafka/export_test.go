package kafka

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
