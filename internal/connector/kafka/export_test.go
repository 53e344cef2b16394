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
