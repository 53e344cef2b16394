package tide

import (
	"context"
	"time"
)

// heartbeat extends the leases of all that is claimed, at a third of the lease.
func (s *shift) heartbeat(ctx context.Context) {
	beat := time.NewTicker(s.config.Lease / 3)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
			s.extend(ctx, s.inFlight())
		case <-ctx.Done():
			return
		}
	}
}

// inFlight are the messages whose leases are to be extended. One that is being
// completed is not among them: an extension would wait for its row until the
// commit, and then be refused.
func (s *shift) inFlight() []*delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*delivery, 0, len(s.held))
	for _, d := range s.held {
		if !d.settling {
			all = append(all, d)
		}
	}
	return all
}

func (s *shift) extend(ctx context.Context, batch []*delivery) {
	if len(batch) == 0 {
		return
	}
	limit, cancel := context.WithTimeout(ctx, s.config.Lease/3)
	defer cancel()
	err := s.many(limit, extendManySQL, batch, interval(s.config.Lease))
	switch {
	case err == nil:
	case isLost(err) && len(batch) > 1:
		// One was lost, or completed a moment ago, and with it all were refused.
		s.extend(ctx, batch[:len(batch)/2])
		s.extend(ctx, batch[len(batch)/2:])
	case isLost(err):
		s.interrupt(batch[0])
	case ctx.Err() == nil:
		s.log.Warn("cannot extend leases; trying again", "messages", len(batch), "error", err)
	}
}

// interrupt ends the work on a message that is another's, unless what became
// of it is being said.
func (s *shift) interrupt(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[d.ID] != d || d.settling {
		return
	}
	if d.cancel != nil {
		d.cancel(ErrLeaseLost)
		return
	}
	delete(s.held, d.ID) // no handler has begun it, and none will
}
