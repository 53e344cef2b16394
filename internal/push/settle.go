package push

import (
	"context"
	"errors"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// settle tells the inbox what became of what came back. What fails stays, and
// is told again.
func (s *shift) settle(ctx context.Context) error {
	var taken []*post
	rest := s.back[:0:0]
	for _, p := range s.back {
		if p.next == complete {
			taken = append(taken, p)
		} else {
			rest = append(rest, p)
		}
	}
	err := s.each(taken, func(token string, ids []int64) error {
		return s.inbox.Complete(ctx, token, ids)
	}, func(done []*post) { s.monitor.Count(len(done), 0, 0) })
	for _, p := range rest {
		if err != nil {
			break
		}
		err = s.settleFailure(ctx, p)
	}
	left := s.back[:0]
	for _, p := range s.back {
		if s.flight[p.ID] == p {
			left = append(left, p)
		}
	}
	s.back = left
	return err
}

func (s *shift) settleFailure(ctx context.Context, p *post) error {
	if p.next == release {
		return s.each([]*post{p}, func(token string, ids []int64) error {
			return s.inbox.Release(ctx, token, ids, p.pause)
		}, func([]*post) {
			if !p.cut {
				s.monitor.Count(0, 1, 0)
			}
		})
	}
	dead := false
	return s.each([]*post{p}, func(token string, _ []int64) (err error) {
		dead, err = s.inbox.Fail(ctx, token, p.ID, p.err.Error(), p.pause, p.next == giveUp)
		return err
	}, func([]*post) {
		if dead {
			s.monitor.Count(0, 1, 1)
			return
		}
		s.monitor.Count(0, 1, 0)
	})
}

// each calls f once for each token, and where a lease was lost once for each
// message, so that the others of the claim are settled. done gets those that
// were. What is dealt with leaves the flight.
func (s *shift) each(posts []*post, f func(token string, ids []int64) error, done func([]*post)) error {
	byToken := map[string][]*post{}
	var tokens []string
	for _, p := range posts {
		if byToken[p.Token] == nil {
			tokens = append(tokens, p.Token)
		}
		byToken[p.Token] = append(byToken[p.Token], p)
	}
	for _, token := range tokens {
		group := byToken[token]
		switch err := f(token, idsOf(group)); {
		case err == nil:
			s.land(group)
			done(group)
		case !errors.Is(err, delivery.ErrLeaseLost):
			return err
		case len(group) == 1:
			s.land(group)
			s.lose(group[0], err)
		default:
			for _, p := range group {
				if err := s.each([]*post{p}, f, done); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *shift) land(posts []*post) {
	for _, p := range posts {
		delete(s.flight, p.ID)
	}
}

func (s *shift) lose(p *post, err error) {
	p.err = err
	s.monitor.Failed(s.named(p))
}

func idsOf(posts []*post) []int64 {
	ids := make([]int64, len(posts))
	for i, p := range posts {
		ids[i] = p.ID
	}
	return ids
}

// extend lets the leases last on while requests are out, or their answers wait
// for the database. A request whose lease is lost is cut off: another worker
// has its message.
func (s *shift) extend(ctx context.Context) error {
	if len(s.flight) == 0 || s.clock.Now().Sub(s.extended) < s.options.Lease/3 {
		if len(s.flight) == 0 {
			s.extended = s.clock.Now()
		}
		return nil
	}
	var lost []*post
	byToken := map[string][]*post{}
	for _, p := range s.flight {
		byToken[p.Token] = append(byToken[p.Token], p)
	}
	for token, group := range byToken {
		err := s.inbox.Extend(ctx, token, idsOf(group), s.options.Lease)
		if errors.Is(err, delivery.ErrLeaseLost) {
			for _, p := range group {
				if err = s.inbox.Extend(ctx, token, []int64{p.ID}, s.options.Lease); errors.Is(err, delivery.ErrLeaseLost) {
					lost, err = append(lost, p), nil
				}
				if err != nil {
					break
				}
			}
		}
		if err != nil {
			return err
		}
	}
	for _, p := range lost {
		p.cancel()
		p.lost = true
	}
	s.extended = s.clock.Now()
	return nil
}

// abandon is the end when there is no more time: requests are cut off, and
// their messages are given back, so that the next owner need not wait for
// their leases.
func (s *shift) abandon(work context.Context) {
	for s.out > 0 {
		s.took(<-s.results)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), s.options.CloseTimeout)
	defer cancel()
	_ = s.settle(ctx) // what cannot be settled now is when the leases end
}
