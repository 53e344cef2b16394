package demo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	lookEvery = 200 * time.Millisecond
	// drainEvery is how often the end of the drain is looked for.
	drainEvery = 50 * time.Millisecond
	// stuckAfter is how long nothing may arrive before the demo gives up waiting.
	stuckAfter = 10 * time.Second
	// quiet is how long is waited for what nobody expects.
	quiet = 300 * time.Millisecond
)

// hop is one leg of the way, with what must be at its end.
type hop struct {
	name     string
	service  *service
	inbox    string // empty for the leg from an inbox into the service's own table
	count    string // query
	arrivals string // query
	delays   *delays
	wants    func(event) bool
}

// outboxEnd is where events come from.
type outboxEnd struct {
	service *service
	outbox  string
}

func (s *show) outboxes() []outboxEnd {
	return []outboxEnd{{s.orders, "order_events"}, {s.inventory, "stock_events"}}
}

func (s *show) hops() []hop {
	orders := func(e event) bool { return e.outbox == "order_events" }
	// The filter of the shipping service's pipeline, and all of the stock.
	forShipping := func(e event) bool { return e.eventType == "order.created" || e.outbox == "stock_events" }
	return []hop{
		{name: "orders > payment_triggers", service: s.payments, inbox: "payment_triggers", count: "count_payments",
			arrivals: "arrived_payments", delays: s.paymentDelays, wants: orders},
		{name: "payment_triggers > payments taken", service: s.payments, arrivals: "handled_payments", wants: orders},
		{name: "orders, stock > shipping_triggers", service: s.shipping, inbox: "shipping_triggers", count: "count_shipping",
			arrivals: "arrived_shipping", delays: s.shippingDelays, wants: forShipping},
		{name: "shipping_triggers > shipments", service: s.shipping, arrivals: "handled_shipping", wants: forShipping},
	}
}

// play runs the traffic, takes the payment service away and gives it back,
// and waits until everything has arrived.
func (s *show) play(ctx context.Context) error {
	down, up, end := acts(s.options.For, time.Since(s.began))
	s.observing = begin(ctx, s.observe, s.fail)
	traffic := &traffic{orders: s.orders, inventory: s.inventory, ledger: s.ledger, follower: s.follower, rate: s.options.Rate}
	s.traffic = begin(ctx, traffic.run, s.fail)

	if err := s.until(ctx, down); err != nil {
		return err
	}
	s.tell("the payment service stops, relay and worker: its events wait in %s", s.broker.name())
	s.stopService(s.payments)
	if err := s.until(ctx, up); err != nil {
		return err
	}
	s.startService(ctx, s.payments)
	s.tell("the payment service is back and catches up")
	if err := s.until(ctx, end); err != nil {
		return err
	}
	s.traffic.stop()
	s.tell("the traffic ends; waiting for the last events")
	if err := s.drain(ctx); err != nil {
		return err
	}
	s.observing.stop()
	return s.glance(ctx) // the final state
}

// acts says when the payment service stops and comes back and when the traffic
// ends, so that what is then on its way arrives in time. On a machine where
// the start took most of the time, the show takes longer than asked.
func acts(lasts, start time.Duration) (down, up, end time.Duration) {
	const least = 2 * time.Second
	end = max(lasts-min(max(lasts/6, time.Second), 5*time.Second), start+least)
	down = max(lasts/2, start+least/3)
	down = min(down, end-least/2)
	up = min(down+max(least/3, min(lasts*3/20, 6*time.Second)), end)
	return down, up, end
}

// until waits for a moment of the show.
func (s *show) until(ctx context.Context, at time.Duration) error {
	pause(ctx, at-time.Since(s.began))
	return context.Cause(ctx)
}

func (s *show) observe(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := errors.Join(s.broker.lost(), s.glance(ctx)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *show) glance(ctx context.Context) error {
	now, err := s.observer.look(ctx)
	if err != nil {
		return err
	}
	s.screen.draw(now)
	return nil
}

// drain waits until every hop has as many as it must, or nothing moves any more.
func (s *show) drain(ctx context.Context) error {
	last, moved := -1, time.Now()
	for ctx.Err() == nil && time.Since(moved) < stuckAfter {
		missing, err := s.missing(ctx)
		if err != nil {
			return err
		}
		if missing == 0 {
			pause(ctx, quiet)
			break
		}
		if missing != last {
			last, moved = missing, time.Now()
		}
		pause(ctx, drainEvery)
	}
	return context.Cause(ctx)
}

// missing counts what is on its way or not yet processed.
func (s *show) missing(ctx context.Context) (int, error) {
	missing := 0
	for _, h := range s.hops() {
		if h.inbox == "" {
			continue
		}
		var arrived, unprocessed int
		if err := h.service.pool.QueryRow(ctx, query(h.count)).Scan(&arrived, &unprocessed); err != nil {
			return 0, fmt.Errorf("count what arrived at %s: %w", h.inbox, err)
		}
		missing += max(0, s.ledger.count(h.wants)-arrived) + unprocessed
	}
	return missing, nil
}
