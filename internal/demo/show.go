package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// show is the demo's stage: everything that runs, and what is known of it.
type show struct {
	options  Options
	fail     func(error)
	screen   *screen
	news     *news
	logs     *lastLines
	logger   *slog.Logger
	ledger   *ledger
	follower *follower
	began    time.Time

	postgres                              *throwaway.Server
	broker, tutorialBroker                bus
	orders, payments, shipping, inventory *service
	paymentDelays, shippingDelays         *delays
	traffic                               *task
	observing                             *task
	observer                              *observer
}

func newShow(o Options, fail func(error)) *show {
	s := &show{
		options: o, fail: fail, screen: newScreen(o), news: &news{}, logs: &lastLines{},
		ledger: newLedger(), follower: newFollower(busTitle(o.Bus)), began: time.Now(),
		paymentDelays: &delays{}, shippingDelays: &delays{},
	}
	s.logger = slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s.observer = newObserver(s)
	return s
}

// setUp starts the servers, then the services side by side.
func (s *show) setUp(ctx context.Context) error {
	var err error
	s.postgres, err = throwaway.Start(ctx, throwaway.Options{PrivateTree: s.options.Keep, Notices: s.options.Out})
	if err != nil {
		return err
	}
	if s.broker, err = s.newBus(ctx, "nats"); err != nil {
		return err
	}
	if err := s.broker.watch(ctx, s.follower.passBroker, s.fail); err != nil {
		return err
	}
	var works []func() error
	for name, at := range map[string]**service{"orders": &s.orders, "payments": &s.payments, "shipping": &s.shipping, "inventory": &s.inventory} {
		works = append(works, func() (err error) {
			*at, err = newService(ctx, s.postgres, name, s.broker)
			return err
		})
	}
	if err := together(works...); err != nil {
		return err
	}
	s.screen.say("PostgreSQL %s at 127.0.0.1:%d, %s at %s, ready after %s", s.postgres.Version, s.postgres.Port, s.broker.name(), s.broker.url(), seconds(time.Since(s.began)))
	for _, one := range s.services() {
		s.startService(ctx, one)
	}
	return nil
}

// services returns those that are set up.
func (s *show) services() []*service {
	var all []*service
	for _, one := range []*service{s.orders, s.inventory, s.payments, s.shipping} {
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

// startService starts the relay and the worker of a service.
func (s *show) startService(ctx context.Context, one *service) {
	failed := func(what string) func(error) {
		return func(err error) { s.fail(fmt.Errorf("the %s of %s: %w", what, one.name, err)) }
	}
	logger := s.logger.With("service", one.name)
	one.relay = begin(ctx, func(ctx context.Context) error { return s.options.Relay(ctx, one.dsn, logger) }, failed("relay"))
	var w *worker
	switch one {
	case s.payments:
		w = paymentWorker(one, func(m message, at time.Time) {
			s.follower.passWorker(m.eventID, m.receivedAt, at)
			s.measure(s.paymentDelays, m)
		})
	case s.shipping:
		w = shippingWorker(one, func(m message, _ time.Time) { s.measure(s.shippingDelays, m) })
	}
	if w != nil {
		one.worker = begin(ctx, w.run, failed("worker"))
	}
	one.down.Store(false)
}

// stopService ends both, as a deployment would.
func (s *show) stopService(one *service) {
	one.down.Store(true)
	one.stop()
}

func (s *show) measure(to *delays, m message) {
	if committed, ok := s.ledger.committedAt(m.eventID); ok {
		to.add(m.receivedAt.Sub(committed))
	}
}

// tell makes news of what happens on the stage.
func (s *show) tell(format string, arguments ...any) {
	text := fmt.Sprintf("%6s  %s", seconds(time.Since(s.began)), fmt.Sprintf(format, arguments...))
	s.news.add(text)
	if s.options.Size == nil {
		s.screen.say("%s", text)
	}
}

// close ends everything, in the order in which it depends on each other.
func (s *show) close() error {
	s.traffic.stop()
	s.observing.stop()
	var works []func() error
	for _, one := range s.services() {
		works = append(works, func() error { one.stop(); return nil })
	}
	err := together(works...)
	for _, one := range s.services() {
		one.pool.Close()
	}
	for _, b := range []bus{s.broker, s.tutorialBroker} {
		if b != nil {
			b.close()
		}
	}
	if s.postgres != nil {
		err = errors.Join(err, s.postgres.Close())
	}
	return err
}
