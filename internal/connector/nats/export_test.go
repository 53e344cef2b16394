package nats

// Crash cuts the connection as the death of the process would: nothing is
// handed back.
func Crash(s *Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session.conn.nc.Close()
}
