package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// errDifferent is the demo's failure: the bus broke its promise.
var errDifferent = errors.New("what arrived is not what was committed")

// judge compares what was committed with what arrived, says so, and returns
// an error when they differ.
func (s *show) judge(ctx context.Context) error {
	if !s.options.Keep {
		// Whatever a relay still had in hand is part of the truth.
		for _, one := range s.services() {
			one.worker.stop()
		}
		var works []func() error
		for _, one := range s.services() {
			works = append(works, func() error { one.relay.stop(); return nil })
		}
		if err := together(works...); err != nil {
			return err
		}
	}
	_, rolledOrders := s.ledger.counts("order_events")
	_, rolledStock := s.ledger.counts("stock_events")
	s.screen.say("")
	s.screen.say("what arrived, of what was committed (%d more were published and rolled back):", rolledOrders+rolledStock)
	var total verdict
	for _, h := range s.hops() {
		arrived, err := h.service.arrivals(ctx, h.arrivals)
		if err != nil {
			return err
		}
		v := compare(s.ledger.wanted(h.wants), arrived)
		s.screen.say("  %-34s %7d of %d", h.name, v.arrived, v.wanted)
		total = total.add(v)
	}
	if s.follower.arrived() {
		for _, text := range s.follower.story() {
			s.screen.say("  %s", text)
		}
	}
	if total.clean() && total.wanted == 0 {
		return errors.New("nothing was committed, so nothing was shown")
	}
	if !total.clean() {
		for _, text := range total.example {
			s.screen.say("  %s", text)
		}
		for _, text := range append(s.trouble(ctx), s.logs.all()...) {
			s.screen.say("  %s", text)
		}
	}
	s.screen.say("%s", total)
	if !total.clean() {
		return errDifferent
	}
	return nil
}

// lastLines keeps the end of the relays' logs, for when something is wrong.
type lastLines struct {
	mu    sync.Mutex
	lines []string
}

// Write takes one line of a log.
func (l *lastLines) Write(text []byte) (int, error) {
	const kept = 10
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(string(text)))
	if len(l.lines) > kept {
		l.lines = l.lines[1:]
	}
	return len(text), nil
}

func (l *lastLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, text := range l.lines {
		all = append(all, fmt.Sprintf("log: %s", text))
	}
	return all
}
